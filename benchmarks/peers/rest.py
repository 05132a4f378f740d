"""Load on a server of JSON over HTTP: threads with a connection each.

Python's client is the limit from some thousand requests per second on; what these servers do is
well below, and `limit` says so.
"""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import time
from typing import TYPE_CHECKING

from pyruntime.bench.histogram import Histogram
from pyruntime.bench.load.process import ServerProcess
from pyruntime.bench.load.target import LoadResult, OnDone, Times, Usage
from pyruntime.errors import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

TIMEOUT_S = 60.0
LIMIT_S = 0.3


class OverRest:
    """See pyruntime.bench.load.Target."""

    def __init__(self, port: int, path: str, inputs: Mapping[str, np.ndarray], pid: int) -> None:
        self._port = port
        self._path = path
        values = {name: array.tolist() for name, array in inputs.items()}
        self._body = json.dumps({"inputs": values}).encode()
        self._process = ServerProcess(pid)
        self._limit: float | None = None

    def call(self) -> bytes:
        """One request; raises what is wrong with it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            status, answer = self._send(connection)
        finally:
            connection.close()
        if status != 200:
            raise RuntimeError(f"HTTP {status}: {answer[:200].decode(errors='replace')}")
        return answer

    def closed(self, in_flight: int, seconds: float) -> LoadResult:
        """See Target."""
        return _closed(self._port, self._path, self._body, in_flight, seconds)

    def open(self, times_ns: Times, seconds: float) -> LoadResult:
        """See Target."""
        raise Unimplemented("arrivals at a rate over REST")

    def submit(self, on_done: OnDone) -> None:
        """See Target."""
        raise Unimplemented("LoadGen over REST")

    def limit(self, *, is_open: bool, in_flight: int) -> float | None:
        """See Target; of a server that answers without reading JSON, in this process too."""
        if self._limit is None:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _AnswersAtOnce)
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                port = server.server_address[1]
                seen = _closed(port, self._path, self._body, max(in_flight, 4), LIMIT_S)
            finally:
                server.shutdown()
                server.server_close()
            self._limit = seen.requests_per_s
        return self._limit

    def usage(self) -> Usage:
        """See Target."""
        return self._process.usage()

    def batches(self) -> Mapping[int, int] | None:
        """See Target."""
        return None

    def explain(self) -> str:
        """See Target."""
        try:
            self.call()
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            return str(error)
        return ""

    def close(self) -> None:
        """See Target."""

    def _send(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        return _send(connection, self._path, self._body)


class _AnswersAtOnce(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def _send(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def _closed(port: int, path: str, body: bytes, in_flight: int, seconds: float) -> LoadResult:
    clock = time.perf_counter_ns
    begin = clock()
    until = begin + int(1e9 * seconds)
    lock = threading.Lock()
    times_ns: list[int] = []
    errors: dict[str, int] = {}
    ended: list[str] = []

    def caller() -> None:
        own: list[int] = []
        failed: dict[str, int] = {}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        try:
            while (start := clock()) < until:
                status, _ = _send(connection, path, body)
                if status == 200:
                    own.append(clock() - start)
                else:
                    failed[f"HTTP {status}"] = failed.get(f"HTTP {status}", 0) + 1
        except (OSError, http.client.HTTPException) as error:
            ended.append(str(error) or type(error).__name__)
        finally:
            connection.close()
            with lock:
                times_ns.extend(own)
                for name, count in failed.items():
                    errors[name] = errors.get(name, 0) + count

    threads = [threading.Thread(target=caller) for _ in range(in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return LoadResult(
        seconds=(clock() - begin) / 1e9,
        requests=len(times_ns),
        latency=Histogram.of_ns(times_ns),
        errors=errors,
        ended=ended[0] if ended else "",
    )
