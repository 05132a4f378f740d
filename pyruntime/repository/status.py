"""What becomes of a version: its state, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["State", "VersionStatus"]


class State(StrEnum):
    """Where a version stands; named as on the wire."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version at one moment.

    version: the folder's name; empty where the model's folder is what is wrong.
    reason: why it is not served, or what else is to be known of it; empty: nothing.
    size_bytes: measured; 0 unless it is loaded.
    is_failed: whether it was tried as it is now, and cannot be served.
    is_kept: whether it stays loaded only for going back to.
    seconds: that loading took.
    """

    model: str
    version: str
    state: State
    reason: str = ""
    is_failed: bool = False
    size_bytes: int = 0
    is_kept: bool = False
    seconds: float = 0.0
