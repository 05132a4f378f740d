"""The scenarios of MLPerf, sent by MLCommons' LoadGen (the package mlcommons-loadgen).

LoadGen decides what is sent when, and keeps its own log: latencies are those of the log, from the
time that it meant a query to be sent at. Ours, from Python, are beside them as `service`.
"""

import dataclasses
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyruntime.bench.histogram import Histogram
from pyruntime.bench.load.target import LoadResult, OnDone
from pyruntime.bench.results import Configuration
from pyruntime.errors import Unavailable

__all__ = ["LoadGen", "Log"]

_SCENARIOS = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "server": "Server",
    "offline": "Offline",
}
# How far its percentiles may be from those of our histogram of its times: relatively, and by a
# rank, since quantiles of few values are defined in several ways.
_AGREE = 0.01
_PERCENTILES = (50.0, 90.0, 99.0)
# Of its limit: that many queries at once.
_LIMIT_QUERIES = 20_000
_LIMIT_S = 0.2
_SAMPLES = 1  # of the library: every request is the same
_TRACED = re.compile(
    r'"sample_seq":(\d+),"query_seq":(\d+),"sample_idx":\d+,'
    r'"issue_start_ns":(\d+),"complete_ns":(\d+)'
)


class Submits(Protocol):
    """As much of a Target as LoadGen needs."""

    def submit(self, on_done: OnDone) -> None:
        """See Target."""


class _AnswersAtOnce:
    """Shows what LoadGen and Python alone can do."""

    def submit(self, on_done: OnDone) -> None:
        """See Target."""
        on_done(None)


class LoadGen:
    """Puts a scenario on a target. Threads: one user at a time, one in a process."""

    def __init__(self, target: "Submits") -> None:
        """Raises Unavailable if the package is absent."""
        try:
            import mlperf_loadgen
        except ImportError:
            raise Unavailable(
                "MLPerf's scenarios need LoadGen, which is not installed: "
                "pip install mlcommons-loadgen"
            ) from None
        self._lib: Any = mlperf_loadgen
        self._target = target
        self._expected_per_s = 100.0  # until it is known
        self._limits: dict[str, float] = {}
        self.log: Log | None = None  # of the last test

    def run(self, configuration: Configuration, seconds: float, seed: int) -> LoadResult:
        """Run one test of so many seconds, at least one query."""
        settings = self._settings(configuration, seconds, seed)
        # An offline test is one query of all samples, whose times say little and fill a disk.
        is_traced = configuration.scenario != "offline"
        issued = _Issued(self._lib, self._target)
        with tempfile.TemporaryDirectory(prefix="pyruntime-loadgen-") as folder:
            self._start(settings, issued, folder, is_traced=is_traced)
            log = self.log = Log(Path(folder))
        service = Histogram.of_ns(issued.latencies_ns())
        latency = lag = None
        if is_traced and len(log.times) == issued.count:
            latency, lag = log.of_queries(issued.is_answered())
        notes = () if latency is None else tuple(_disagreements(log, latency, issued.errors))
        result = LoadResult(
            seconds=max(issued.seconds, 1e-9),
            requests=issued.answered,
            latency=latency or service,
            service=service if latency else None,
            lag=lag if configuration.scenario == "server" else None,
            errors=issued.errors,
            notes=notes,
        )
        if result.requests:
            self._expected_per_s = result.requests_per_s
        return result

    def limit(self, configuration: Configuration) -> float:
        """Requests per second of this scenario to what answers at once."""
        scenario = configuration.scenario
        if scenario not in self._limits:
            # What arrives by a schedule can come as fast as all at once.
            tried = "offline" if scenario == "server" else scenario
            one = LoadGen(_AnswersAtOnce())
            one._expected_per_s = _LIMIT_QUERIES / _LIMIT_S
            seen = one.run(dataclasses.replace(configuration, scenario=tried), _LIMIT_S, 0)
            self._limits[scenario] = seen.requests_per_s
        return self._limits[scenario]

    def _settings(self, configuration: Configuration, seconds: float, seed: int) -> Any:
        lib, per_s = self._lib, self._expected_per_s
        settings = lib.TestSettings()
        settings.scenario = getattr(lib.TestScenario, _SCENARIOS[configuration.scenario])
        settings.mode = lib.TestMode.PerformanceOnly
        settings.min_duration_ms = max(1, int(1e3 * seconds))
        settings.max_duration_ms = settings.min_duration_ms
        settings.min_query_count = 1
        settings.qsl_rng_seed = settings.sample_index_rng_seed = seed + 1
        settings.schedule_rng_seed = seed + 1
        # It makes its queries beforehand: twice as many as are expected, to have enough.
        samples = configuration.concurrency or 1
        settings.single_stream_expected_latency_ns = max(1, int(1e9 / (2 * per_s)))
        settings.multi_stream_samples_per_query = samples
        settings.multi_stream_expected_latency_ns = max(1, int(1e9 * samples / (2 * per_s)))
        settings.server_target_qps = configuration.rate_per_s or per_s
        settings.offline_expected_qps = per_s
        return settings

    def _start(self, settings: Any, issued: "_Issued", folder: str, *, is_traced: bool) -> None:
        lib = self._lib
        output = lib.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        log = lib.LogSettings()
        log.log_output = output
        log.enable_trace = is_traced
        sut = lib.ConstructSUT(issued.issue, _nothing)
        library = lib.ConstructQSL(_SAMPLES, _SAMPLES, _nothing, _nothing)
        try:
            lib.StartTestWithLogSettings(sut, library, settings, log, "")
        finally:
            lib.DestroyQSL(library)
            lib.DestroySUT(sut)


def _nothing(*_: object) -> None:
    """LoadGen's notices that need no answer."""


class _Issued:
    """The queries of one test.

    Threads: issue() is LoadGen's; requests are answered on any.
    """

    def __init__(self, lib: Any, target: Submits) -> None:
        self._lib = lib
        self._target = target
        self._begin = 0
        self.count = 0  # of requests
        self._lock = threading.Lock()
        # Guarded by the lock. Of those answered with a result, by the order of issue, ns.
        self._latency_ns: dict[int, int] = {}
        self._errors: dict[str, int] = {}
        self._last = 0

    def issue(self, samples: list[Any]) -> None:
        """Start a request for each; of a query of several, each counts from its beginning."""
        begin = time.perf_counter_ns()
        self._begin = self._begin or begin
        first, self.count = self.count, self.count + len(samples)
        for number, sample in enumerate(samples, first):
            self._target.submit(self._teller(number, sample.id, begin))

    def _teller(self, number: int, sample_id: int, begin: int) -> OnDone:
        def tell(error: str | None) -> None:
            now = time.perf_counter_ns()
            with self._lock:
                self._last = max(self._last, now)
                if error is None:
                    self._latency_ns[number] = now - begin
                else:
                    self._errors[error] = self._errors.get(error, 0) + 1
            # It knows no failure: what failed is left out of ours.
            self._lib.QuerySamplesComplete([self._lib.QuerySampleResponse(sample_id, 0, 0)])

        return tell

    def latencies_ns(self) -> list[int]:
        """Of those that were answered with a result."""
        return list(self._latency_ns.values())

    def is_answered(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """With a result, by the order of issue."""
        answered = np.zeros(self.count, bool)
        answered[list(self._latency_ns)] = True
        return answered

    @property
    def answered(self) -> int:
        """With a result."""
        return len(self._latency_ns)

    @property
    def errors(self) -> dict[str, int]:
        """By name."""
        return dict(self._errors)

    @property
    def seconds(self) -> float:
        """From the first query to the last answer."""
        return (self._last - self._begin) / 1e9


class Log:
    """What LoadGen wrote of one test.

    percentiles_us: its own, of queries. times: by sample in the order of issue: its query, how
    late it was sent and when it was answered, ns from when it was meant to be sent.
    """

    def __init__(self, folder: Path) -> None:
        """Read it."""
        of_samples: dict[float, float] = {}
        of_queries: dict[float, float] = {}
        for line in (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines():
            if not line.startswith(":::MLLOG"):
                continue
            entry = json.loads(line.removeprefix(":::MLLOG"))
            found = re.fullmatch(
                r"result_([0-9.]+)_percentile_(per_query_)?latency_ns", entry["key"]
            )
            if found:
                percentiles = of_queries if found[2] else of_samples
                percentiles[float(found[1])] = entry["value"] / 1e3
        self.percentiles_us = of_queries or of_samples  # the former where a query has several
        trace = folder / "mlperf_log_trace.json"
        found_times = _TRACED.findall(trace.read_text(encoding="utf-8")) if trace.exists() else []
        times = np.array(sorted(tuple(map(int, one)) for one in found_times), np.int64)
        self.times = times.reshape(-1, 4)[:, 1:]

    def of_queries(
        self, is_answered: "np.ndarray[Any, np.dtype[np.bool_]]"
    ) -> tuple[Histogram, Histogram]:
        """Latencies of the queries of which all samples were answered, and how late all were."""
        queries, lags_ns, done_ns = self.times.T
        _, first, index = np.unique(queries, return_index=True, return_inverse=True)
        latency_ns = np.zeros(len(first), np.int64)
        np.maximum.at(latency_ns, index, done_ns)
        is_whole = np.ones(len(first), bool)
        np.logical_and.at(is_whole, index, is_answered)
        return Histogram.of_ns(latency_ns[is_whole]), Histogram.of_ns(lags_ns[first])


def _disagreements(log: Log, latency: Histogram, errors: Mapping[str, int]) -> Iterator[str]:
    """What our histogram makes of its times, held against its own percentiles."""
    if errors:
        yield "LoadGen knows no failed requests: its own percentiles count them as answered"
        return
    for percentile in _PERCENTILES:
        theirs = log.percentiles_us.get(percentile)
        if theirs is None or not latency.count:
            continue
        around = [percentile / 100 + side / latency.count for side in (-1.5, 1.5)]
        low, high = latency.quantiles(np.clip(around, 0, 1)) * (1 - _AGREE, 1 + _AGREE)
        if not low <= theirs <= high:
            ours = latency.quantile(percentile / 100)
            yield f"LoadGen's p{percentile:g} is {theirs:.1f} us, ours of its log {ours:.1f} us"
            return
