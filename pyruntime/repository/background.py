"""Work of Python that must not be felt by those who serve requests."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_in_background"]

_NICE = 19


def run_in_background(work: Callable[[], None]) -> None:
    """Run `work` on a thread of low priority, and wait; raises what it raises.

    A thread of its own, since without privileges none can raise its priority again.
    """
    failures: list[BaseException] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="pyruntime-warm-up")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
