"""Load over gRPC with TLS, sent by Python's gRPC module.

The client of csrc/probe knows no TLS, and what encrypts for it would be one more library to build
with. A call of grpcio costs this machine some 100 us of processor time, so its limit is near; the
results say that it sent them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from pyruntime import _probe
from pyruntime.bench.histogram import Histogram
from pyruntime.bench.load.grpc_target import GrpcTarget
from pyruntime.bench.load.target import LoadResult, Times
from pyruntime.client import Client
from pyruntime.errors import DeadlineExceeded, PyRuntimeError, Unavailable

__all__ = ["OverTls"]

NOTE = (
    "sent by grpcio, since the client in C++ knows no TLS: its calls take processor time that a "
    "server on this machine lacks, and their own time is in the latencies"
)
_LIMIT_S = 0.5
_LEAST_IN_FLIGHT = 32
# Calls in a row that find no server, after which it is taken to be gone. One that fails at once is
# followed by the next within its own call, so many deep.
_GONE = 50
_SPIN_NS = 100_000  # before a call, instead of sleeping too long


class OverTls(GrpcTarget):
    """See Target."""

    def __init__(
        self,
        address: str,
        model: str,
        request: bytes,
        clients: Sequence[Client],
        patience_s: float,
    ) -> None:
        """Send one request to see that it is answered; raises what that fails with.

        clients: a connection each, which take turns; closed with this.
        """
        self._clients = clients
        self._patience_s = patience_s
        self._cpu_s = 0.0
        self._requests = 0
        self._plain: tuple[float, float] | None = None
        try:
            super().__init__(address, model, request, clients[0])
        except BaseException:
            self.close()
            raise

    def closed(self, in_flight: int, seconds: float) -> LoadResult:
        """See Target."""
        return self._counted(self._load(self._clients).closed(in_flight, seconds))

    def open(self, times_ns: Times, seconds: float) -> LoadResult:
        """See Target."""
        return self._counted(self._load(self._clients).open(times_ns, seconds))

    def limit(self, *, is_open: bool, in_flight: int) -> float | None:
        """See Target: what it sends without TLS, by so much less as a call took more time with it.

        That a call takes more where few are in flight makes it too low there, where it is not near.
        """
        if not self._requests:
            return None
        if self._plain is None:
            responder = _probe.GrpcResponder(self._answer, np.empty(0, np.int64), 0, 0, 0, 0)
            with closing(responder), closing(Client(responder.address)) as client:
                load = self._load([client])
                load.closed(_LEAST_IN_FLIGHT, _LIMIT_S / 5)  # connects
                seen = load.closed(max(in_flight, _LEAST_IN_FLIGHT), _LIMIT_S)
            self._plain = seen.requests_per_s, seen.generator_cpu_s / max(1, seen.requests)
        per_s, cpu_s = self._plain
        return per_s * min(1.0, cpu_s / (self._cpu_s / self._requests))

    def close(self) -> None:
        """See Target."""
        for client in self._clients:
            client.close()

    def _load(self, clients: Sequence[Client]) -> "_Load":
        return _Load(clients, self._request, self._patience_s)

    def _counted(self, seen: LoadResult) -> LoadResult:
        self._cpu_s += seen.generator_cpu_s
        self._requests += seen.requests
        return seen


class _Load:
    """What sends calls, any number of them at once.

    Threads: one closed() or open() at a time; answers come on grpcio's.
    """

    def __init__(self, clients: Sequence[Client], request: bytes, patience_s: float) -> None:
        self._clients = clients
        self._request = request
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        # Guarded by the lock.
        self._sent = 0
        self._answered = 0
        self._latency_ns: list[int] = []
        self._service_ns: list[int] = []
        self._errors: dict[str, int] = {}
        self._first_error = ""
        self._ended = ""
        self._in_a_row = 0  # failures to reach the server
        self._all_answered = threading.Event()
        self._is_sending = True

    def closed(self, in_flight: int, seconds: float) -> LoadResult:
        """As Target.closed."""
        self._reset()
        cpu_s, begin = time.process_time(), time.perf_counter_ns()
        until = begin + int(1e9 * seconds)

        def again() -> None:
            if time.perf_counter_ns() < until and not self._ended:
                self._send(None, again)

        for _ in range(in_flight):
            self._send(None, again)
        self._wait()
        return self._result(begin, cpu_s, lags_ns=None)

    def open(self, times_ns: Times, seconds: float) -> LoadResult:
        """As Target.open."""
        self._reset()
        cpu_s, begin = time.process_time(), time.perf_counter_ns()
        lags_ns: list[int] = []
        for after_ns in times_ns.tolist():
            intended = begin + after_ns
            _sleep_until(intended)
            if self._ended:
                break
            lags_ns.append(max(0, time.perf_counter_ns() - intended))
            self._send(intended, lambda: None)
        if not self._ended:
            _sleep_until(begin + int(1e9 * seconds))
        self._wait()
        return self._result(begin, cpu_s, lags_ns=lags_ns)

    def _send(self, intended: int | None, then: Callable[[], None]) -> None:
        """Start a call. then: is called when it is answered, and may start another."""
        with self._lock:
            number = self._sent
            self._sent += 1
        start = time.perf_counter_ns()

        def done(error: PyRuntimeError | None) -> None:
            now = time.perf_counter_ns()
            self._count(error, now - (intended or start), now - start)
            then()
            with self._lock:
                self._answered += 1
                is_last = self._answered == self._sent and not self._is_sending
            if is_last:
                self._all_answered.set()

        client = self._clients[number % len(self._clients)]
        client.start_raw(self._request, done, timeout_s=self._patience_s)

    def _wait(self) -> None:
        with self._lock:
            self._is_sending = False
            is_over = self._answered == self._sent
        if not is_over:
            self._all_answered.wait()

    def _count(self, error: PyRuntimeError | None, latency_ns: int, service_ns: int) -> None:
        with self._lock:
            if error is None:
                self._in_a_row = 0
                self._latency_ns.append(latency_ns)
                self._service_ns.append(service_ns)
                return
            self._errors[error.code] = self._errors.get(error.code, 0) + 1
            self._first_error = self._first_error or str(error)
            if isinstance(error, DeadlineExceeded) and service_ns >= 0.9e9 * self._patience_s:
                self._ended = self._ended or f"no answer for {self._patience_s:g} s"
            self._in_a_row = self._in_a_row + 1 if isinstance(error, Unavailable) else 0
            if self._in_a_row >= _GONE:
                self._ended = self._ended or f"the server is gone: {error}"

    def _result(self, begin: int, cpu_s: float, *, lags_ns: list[int] | None) -> LoadResult:
        end = time.perf_counter_ns()
        errors = dict(self._errors)
        if self._in_a_row >= _GONE:  # of a server that is gone nobody was refused
            errors[Unavailable.code] -= self._in_a_row
            errors = {name: count for name, count in errors.items() if count > 0}
        is_open = lags_ns is not None
        return LoadResult(
            seconds=(end - begin) / 1e9,
            requests=len(self._latency_ns),
            latency=Histogram.of_ns(self._latency_ns),
            service=Histogram.of_ns(self._service_ns) if is_open else None,
            lag=Histogram.of_ns(lags_ns) if lags_ns is not None else None,
            errors=errors,
            generator_cpu_s=time.process_time() - cpu_s,
            first_error=self._first_error,
            ended=self._ended,
            notes=(NOTE,),
        )


def _sleep_until(at_ns: int) -> None:
    """Sleep, and look at the clock for the rest: a sleep is late by what waking takes."""
    while (left_ns := at_ns - time.perf_counter_ns()) > 0:
        if left_ns > _SPIN_NS:
            time.sleep((left_ns - _SPIN_NS) / 1e9)
