"""Brings results to asyncio: each event loop watches a queue of its own.

A wake of the loop delivers everything that has finished by then.
"""

import asyncio
import os
import weakref
from typing import TYPE_CHECKING

from pyruntime._hot import CompletionQueue
from pyruntime.completions import adopt_queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["lease_of", "queue_of_running_loop"]

_queues: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, CompletionQueue]" = (
    weakref.WeakKeyDictionary()
)


def queue_of_running_loop() -> tuple[asyncio.AbstractEventLoop, CompletionQueue]:
    """Give the loop that runs on this thread, and the queue that it watches."""
    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = _watch(loop)
    return loop, queue


async def lease_of(
    bring_in: "Callable[[], AbstractContextManager[float | None]]",
) -> "AbstractContextManager[float | None]":
    """Call `bring_in`, which may block, on another thread; give the lease that it returns.

    When the task is cancelled meanwhile, the lease is released as soon as it comes.
    """
    arrival = asyncio.get_running_loop().run_in_executor(None, bring_in)
    try:
        return await asyncio.shield(arrival)
    except asyncio.CancelledError:
        arrival.add_done_callback(_release)
        raise


def _release(arrival: "asyncio.Future[AbstractContextManager[float | None]]") -> None:
    if not arrival.cancelled() and arrival.exception() is None:
        with arrival.result():
            pass


class _Drain:
    """What a loop calls when its queue may hold something."""

    def __init__(self, queue: CompletionQueue) -> None:
        self._queue = queue

    def __call__(self) -> None:
        self._queue.drain()


def _watch(loop: asyncio.AbstractEventLoop) -> CompletionQueue:
    queue = _queues[loop] = CompletionQueue(is_of_loop=True)
    drain = _Drain(queue)
    # The loop alone holds `drain`, and lets it go when it is closed.
    weakref.finalize(drain, _on_loop_closed, queue, os.getpid()).atexit = False
    loop.add_reader(queue.fileno(), drain)
    return queue


def _on_loop_closed(queue: CompletionQueue, pid: int) -> None:
    """Requests may still be under way; what keeps their inputs is freed when they are done."""
    queue.abandon()
    if queue.in_flight and pid == os.getpid():
        adopt_queue(queue)


def _forget_after_fork() -> None:
    _queues.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
