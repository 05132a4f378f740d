"""Being asked to stop."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType


class StopSignal:
    """Notes SIGTERM and SIGINT while entered; a second one raises KeyboardInterrupt.

    Threads: entered and left by the main thread.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @property
    def is_set(self) -> bool:
        """Whether someone asked."""
        return self._event.is_set()

    def wait(self) -> None:
        """Wait until someone asks."""
        self._event.wait()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._event.is_set():
            raise KeyboardInterrupt
        self._event.set()
