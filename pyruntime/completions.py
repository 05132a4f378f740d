"""Brings results to the futures of `submit()`.

The core's threads push completions to a queue and never take the GIL. One daemon thread waits
for it without the GIL and resolves, at each wake, every future whose request has finished.
"""

import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pyruntime._hot import CompletionQueue

if TYPE_CHECKING:
    from pyruntime.routing import Assignment

__all__ = ["InferFuture", "adopt_queue", "stop", "thread_queue"]


class InferFuture(Future[Any]):
    """The future of a request; see cancel().

    assignment: who answers it, where a policy chose.
    """

    def __init__(self) -> None:
        super().__init__()
        self.assignment: Assignment | None = None
        self._cancel_request: Callable[[], bool] | None = None
        self._wants_cancel = False

    def bind(self, cancel_request: Callable[[], bool]) -> None:
        """Say how the request is given up; cancel_request returns whether it was."""
        self._cancel_request = cancel_request
        if self.done():
            self._cancel_request = None

    def cancel(self) -> bool:
        """Give the request up; whether that has happened already.

        One that runs is only asked to end: it is cancelled soon, or else its result arrives.
        """
        cancel_request = self._cancel_request
        self._wants_cancel = True
        if cancel_request is not None and cancel_request():
            # The thread may have come first; it does the same.
            return super().cancel()
        return self.cancelled()

    def deliver(self, result: Any, error: BaseException | None) -> None:
        """Resolve the future; called once, by the thread of completions."""
        self._cancel_request = None
        if error is None:
            self.set_result(result)
        elif self._wants_cancel and getattr(error, "code", "") == "Cancelled":
            super().cancel()
            self.set_running_or_notify_cancel()
        else:
            self.set_exception(error)


class _Thread:
    """Waits for completions of futures, and for those of loops that are closed."""

    def __init__(self) -> None:
        self.queue = CompletionQueue()
        self._epoll = select.epoll()
        self._queues = {self.queue.fileno(): self.queue}
        self._stopping = False
        self._epoll.register(self.queue.fileno(), select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="pyruntime-futures", daemon=True)
        self._thread.start()

    def adopt(self, queue: CompletionQueue) -> None:
        """Drain `queue` too, until all that goes there has arrived."""
        self._queues[queue.fileno()] = queue
        self._epoll.register(queue.fileno(), select.EPOLLIN)
        queue.wake()

    def stop(self) -> None:
        """Deliver what has arrived and end."""
        self._stopping = True
        self.queue.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            for fd, _ in self._epoll.poll():
                queue = self._queues[fd]
                queue.drain()
                if queue is not self.queue and queue.in_flight == 0:
                    self._epoll.unregister(fd)
                    del self._queues[fd]
        self.queue.drain()


# Reentrant: adopt_queue() may be called by a finaliser, within a call that holds it.
_lock = threading.RLock()
_thread: _Thread | None = None


def thread_queue() -> CompletionQueue:
    """Give the queue whose completions the thread delivers; starts the thread."""
    return _running_thread().queue


def adopt_queue(queue: CompletionQueue) -> None:
    """Let the thread drain the queue of a loop that is closed."""
    _running_thread().adopt(queue)


def stop() -> None:
    """End the thread; when the interpreter exits."""
    global _thread
    with _lock:
        thread, _thread = _thread, None
    if thread is not None:
        thread.stop()


def _running_thread() -> _Thread:
    global _thread
    if _thread is None:
        with _lock:
            if _thread is None:
                _thread = _Thread()
    return _thread


def _forget_after_fork() -> None:
    """A child has neither the thread nor the requests that it waited for."""
    global _lock, _thread
    _lock = threading.RLock()
    _thread = None


os.register_at_fork(after_in_child=_forget_after_fork)
