"""Ways into a Runtime from other processes.

A new front end is one module with a class that keeps the FrontEnd contract, and its line in
FRONT_ENDS.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pyruntime.frontends.management import Management
    from pyruntime.runtime import Runtime


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files that a front end proves itself with.

    client_ca: when given, clients must show a certificate that it signed.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class FrontEndOptions:
    """Where a front end listens, and how much it takes on at once.

    addresses: `HOST:PORT` or `unix:PATH`; port 0 lets the system choose.
    tls: for the TCP addresses; a Unix socket is guarded by its file's permissions.
    max_message_bytes: of one request, below 2 GiB.
    max_inferences: under way at once, at least 1; further ones are refused.
    max_streams: open at once, at least 1; further ones are refused.
    route_key_header: metadata that holds the route key of requests without the parameter
        `route_key`; None: there is none.
    management: of a repository; None: there is none.
    """

    addresses: tuple[str, ...] = ("127.0.0.1:8001",)
    tls: TlsFiles | None = None
    max_message_bytes: int = 256 << 20
    max_inferences: int = 64
    max_streams: int = 64
    route_key_header: str | None = None
    management: Management | None = None


class FrontEnd(Protocol):
    """What serves a Runtime's models. It never closes the Runtime.

    Threads: all calls from any; each of start, drain and stop once.
    """

    def __init__(self, runtime: Runtime, options: FrontEndOptions) -> None: ...

    def start(self) -> None:
        """Listen and answer. Raises OSError, naming the address, or InvalidInput."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, with the ports that the system chose."""

    def drain(self, timeout_s: float) -> bool:
        """Tell health checks, refuse what is new, wait for the answers that are due.

        Returns whether all were given in time.
        """

    def stop(self) -> None:
        """Cancel what is left, and give back ports, socket files and threads."""


FRONT_ENDS = {
    "grpc": "pyruntime.frontends.grpc_server:GrpcServer",
}


def front_end(name: str) -> type[FrontEnd]:
    """Import the front end of that name; its libraries are loaded only now."""
    module, _, cls = FRONT_ENDS[name].partition(":")
    found: type[FrontEnd] = getattr(importlib.import_module(module), cls)
    return found
