"""Waiting for a model that its first request loads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Lease"]


class Lease:
    """Keeps a model from being unloaded to make room, while entered.

    Entering gives what is left of the caller's time: seconds, None: no limit.
    """

    def __init__(self, release: Callable[[], None], deadline: float | None) -> None:
        self._release = release
        self._deadline = deadline

    def __enter__(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()
