"""What a repository remembers of its models and their versions."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pyruntime.repository.status import State, VersionStatus

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pyruntime.errors import PyRuntimeError
    from pyruntime.model import Model
    from pyruntime.repository.override import Override
    from pyruntime.repository.scan import FoundModel, Stamp

__all__ = ["Failures", "ModelRecord", "VersionRecord"]

Failures: TypeAlias = "dict[int, PyRuntimeError]"
"""Why versions could not be loaded, by version."""


@dataclass(slots=True)
class VersionRecord:
    """A version that was seen. Under the repository's lock.

    name: the folder's. model: None unless it is loaded.
    stamp: of the files and configuration that are loaded; failed: of those that could not be,
    because of `error`. measured_bytes, pool_bytes_then: when it was loaded, at loaded_at seconds
    since 1970. is_failed: whether what is there now cannot be served. is_evicted: whether it was
    unloaded to make room, and comes back for who asks for it by its number.
    """

    name: str
    state: State = State.UNAVAILABLE
    reason: str = ""
    model: Model | None = None
    stamp: Stamp = ()
    failed: Stamp | None = None
    error: PyRuntimeError | None = None
    is_failed: bool = False
    measured_bytes: int = 0
    pool_bytes_then: int = 0
    loaded_at: float = 0.0
    is_kept: bool = False
    is_evicted: bool = False
    kept_since: float = 0.0
    seconds: float = 0.0

    def status(self, model: str) -> VersionStatus:
        """Give what is to be told."""
        return VersionStatus(
            model,
            self.name,
            self.state,
            self.reason,
            self.is_failed,
            self.measured_bytes if self.model is not None else 0,
            self.is_kept,
            self.seconds,
        )


@dataclass(slots=True)
class ModelRecord:
    """A model that was seen. Under the repository's lock, except `work`.

    work: held by whoever loads or unloads its versions; taken before the repository's lock.
    asked, refused: versions that somebody loaded or unloaded by number.
    is_served: whether its versions are to be loaded; by the mode, or because somebody asked.
    is_waiting: whether it is loaded by its next request. arrival: that load, until it is over.
    leases: held by who uses it or is about to.
    problem: of its folder or configuration as they are now.
    """

    name: str
    work: threading.Lock = field(default_factory=threading.Lock)
    found: FoundModel | None = None
    override: Override | None = None
    versions: dict[str, VersionRecord] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    is_served: bool = False
    is_waiting: bool = False
    arrival: Future[Failures] | None = None
    problem: str = ""
    leases: int = 0

    def loaded(self) -> dict[int, VersionRecord]:
        """Give the loaded versions, ascending."""
        numbers = {int(name): one for name, one in self.versions.items() if one.model is not None}
        return dict(sorted(numbers.items()))
