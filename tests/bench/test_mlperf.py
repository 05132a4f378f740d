"""MLPerf's scenarios by LoadGen: what is sent, and that its log agrees with ours."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from pyruntime.bench import run
from pyruntime.bench.load.mlperf import LoadGen
from pyruntime.bench.results import Configuration

pytest.importorskip("mlperf_loadgen")
IDENTITY = Path(__file__).parents[1] / "models" / "identity_f32.onnx"


class Delayed:
    """Answers each request after a known delay, or fails it."""

    def __init__(self, delay_s: float, *, fails_one_in: int = 0) -> None:
        self.delay_s = delay_s
        self.fails_one_in = fails_one_in
        self.requests = 0

    def submit(self, on_done) -> None:
        self.requests += 1
        fails = self.fails_one_in and self.requests % self.fails_one_in == 0
        error = "Overloaded" if fails else None
        if self.delay_s == 0:
            on_done(error)
        else:
            threading.Timer(self.delay_s, on_done, [error]).start()


def configuration(scenario: str, **load) -> Configuration:
    return Configuration("m", "inproc", scenario, **load)


@pytest.mark.parametrize(
    ("scenario", "load"),
    [
        ("single-stream", {"concurrency": 1}),
        ("multi-stream", {"concurrency": 4}),
        ("server", {"rate_per_s": 50.0}),
    ],
)
def test_its_log_agrees_with_ours(scenario, load) -> None:
    target = Delayed(0.01)
    begin = time.monotonic()
    result = LoadGen(target).run(configuration(scenario, **load), 0.3, seed=1)
    elapsed = time.monotonic() - begin
    assert result.notes == ()  # it would say where percentiles of its own are not ours
    assert result.requests == target.requests
    assert result.latency.count == target.requests / (load.get("concurrency") or 1)
    assert result.latency.min_us >= 10_000
    assert result.latency.max_us <= 1e6 * elapsed
    assert result.service is not None
    # Ours begins within its own: it means to send before Python hears of it.
    assert result.service.min_us >= 10_000
    assert result.errors == {}


def test_arrivals_come_at_the_rate_that_is_asked_for() -> None:
    result = LoadGen(Delayed(0)).run(configuration("server", rate_per_s=1000.0), 0.5, seed=2)
    assert result.requests == pytest.approx(500, rel=0.3)
    assert result.lag is not None
    assert result.lag.count == result.requests


def test_an_offline_test_sends_all_samples_at_once() -> None:
    target = Delayed(0)
    loadgen = LoadGen(target)
    first = loadgen.run(configuration("offline"), 0.1, seed=0)
    # The second knows how many fill the time.
    second = loadgen.run(configuration("offline"), 0.1, seed=0)
    assert second.requests > first.requests > 0
    assert second.requests + first.requests == target.requests


def test_requests_that_fail_are_counted_and_not_timed() -> None:
    target = Delayed(0, fails_one_in=5)
    result = LoadGen(target).run(configuration("single-stream", concurrency=1), 0.05, seed=0)
    failed = target.requests // 5
    assert result.errors == {"Overloaded": failed}
    assert result.latency.count == result.requests == target.requests - failed
    assert result.notes == (
        "LoadGen knows no failed requests: its own percentiles count them as answered",
    )


def test_its_own_limit_is_known() -> None:
    loadgen = LoadGen(Delayed(0.001))
    one = loadgen.limit(configuration("single-stream", concurrency=1))
    assert one > 100
    assert loadgen.limit(configuration("single-stream", concurrency=1)) == one


def test_all_scenarios_run_on_a_model() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("psutil")
    scenarios = ("single-stream", "multi-stream", "server", "offline")
    results = run(IDENTITY, scenarios=scenarios, rates=(100.0,), seconds=0.4, repetition_s=0.05)
    assert results.skipped == ()
    by_scenario = {m.configuration.scenario: m for m in results.measurements}
    assert set(by_scenario) == set(scenarios)
    assert by_scenario["multi-stream"].configuration.concurrency == 8
    assert by_scenario["server"].configuration.rate_per_s == 100
    for measurement in results.measurements:
        assert measurement.figures["errors_share"] == 0
        assert measurement.generator_share


def test_without_loadgen_its_scenarios_are_skipped_with_what_to_install(monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    results = run(IDENTITY, scenarios=("single-stream", "closed"), seconds=0.2)
    assert [m.configuration.scenario for m in results.measurements] == ["closed"]
    assert "pip install mlcommons-loadgen" in results.skipped[0].reason
