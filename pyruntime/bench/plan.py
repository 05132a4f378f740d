"""All that decides what a run measures; it can be sent to another process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyruntime.bench.grid import Grid
from pyruntime.bench.how import How
from pyruntime.bench.subjects import Subject
from pyruntime.bench.summary import FIGURES
from pyruntime.bench.tensors import Array
from pyruntime.errors import InvalidInput

__all__ = ["ClientOptions", "Plan", "Values"]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a server is sent requests.

    threads: that generate; connections: of each.
    patience_s: without any answer, after which a server is given up.
    ca, certificate, key: PEM files, where the target is grpcs://; without `ca` the system's
    certificates vouch for the server.
    is_typed: values travel in the protocol's typed lists instead of as raw bytes.
    service: what the server calls the protocol's service, where it has a name of its own.
    """

    threads: int = 1
    connections: int = 1
    patience_s: float = 60.0
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    is_typed: bool = False
    service: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """`service` as an argument, if there is one."""
        return {} if self.service is None else {"service": self.service}

    def check(self, *, is_tls: bool) -> None:
        """Raises InvalidInput that names the option."""
        for name, number in (("client_threads", self.threads), ("connections", self.connections)):
            if number < 1:
                raise InvalidInput(f"{name}: expected at least 1, got {number}")
        if not self.patience_s > 0:
            raise InvalidInput(f"patience_s: expected more than 0, got {self.patience_s:g}")
        if is_tls and self.threads > 1:
            raise InvalidInput(
                "client_threads: expected 1 for grpcs://, whose requests Python sends, got "
                f"{self.threads}"
            )
        files = {"tls_ca": self.ca, "tls_cert": self.certificate, "tls_key": self.key}
        for name, file in files.items():
            if file is None:
                continue
            if not is_tls:
                raise InvalidInput(f"{name}: expected a target grpcs://HOST:PORT to use it for")
            if not file.is_file():
                raise InvalidInput(f"{name}: {file}: no such file")
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("tls_cert and tls_key: expected both or none, got one")


@dataclass(frozen=True, slots=True)
class Values:
    """What requests hold.

    arrays: that are given, by name; the others are random of the run's seed, or zeros.
    dims: sizes of dynamic dimensions other than the rows. source: what to call them.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    is_zeros: bool = False
    source: str = "random"


@dataclass(frozen=True, slots=True)
class Plan:
    """target: "inproc" or where a server listens. rounds: processes that each measure all."""

    target: str
    subjects: tuple[Subject, ...]
    grid: Grid
    how: How
    values: Values
    client: ClientOptions
    rounds: int = 1

    @property
    def is_inproc(self) -> bool:
        """Whether the models are loaded by who measures them."""
        return self.target == "inproc"

    def check(self) -> None:
        """Raises InvalidInput that names the option."""
        how = self.how
        if not 0 < how.seconds < float("inf"):
            raise InvalidInput(f"seconds: expected more than 0, got {how.seconds:g}")
        if not how.within > 0:
            raise InvalidInput(f"within: expected more than 0, got {how.within:g}")
        if how.repetition_s is not None and not 0 < how.repetition_s <= how.seconds:
            raise InvalidInput(
                f"repetition_s: expected more than 0 and at most {how.seconds:g}, "
                f"got {how.repetition_s:g}"
            )
        if how.figure not in FIGURES:
            raise InvalidInput(f"figure: expected one of {', '.join(FIGURES)}, got {how.figure!r}")
        if self.rounds < 1:
            raise InvalidInput(f"rounds: expected at least 1, got {self.rounds}")
        if self.rounds > 1 and not self.is_inproc:
            raise InvalidInput(
                "rounds: a server stays the same process, of which rounds would show nothing: "
                "start it anew for each run, and give `bench compare` the files as a1.json,a2.json"
            )
