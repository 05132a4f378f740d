"""Each floor of the core by itself, in turns with what one would take instead.

pytest benchmarks/bench_floors.py

`infer` and gRPC have files of their own, bench_infer.py and bench_grpc.py.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import MODELS, ROOT
from side_by_side import FloorFigure

import pyruntime
from pyruntime import ModelOptions, TensorSpec, _probe
from pyruntime.bench.request_bytes import request_bytes
from pyruntime.bench.steps import to_native
from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Takes how many times, and returns the ns that all of them took.
    Timed = Callable[[int], int]

ROUNDS = 41
ROUND_NS = 5e6  # about

COLUMNS = 64


@pytest.fixture
def beside(benchmark, floor_figures) -> Callable[[str, Timed, str, Timed], None]:
    """Measures two ways in turns, into the table at the end."""

    def measure(floor: str, way: Timed, reference_name: str, reference: Timed) -> None:
        times, reference_times = _times(way), _times(reference)
        ns: list[float] = []
        reference_ns: list[float] = []

        def before() -> None:
            reference_ns.append(reference(reference_times) / reference_times)

        def one_round() -> None:
            ns.append(way(times) / times)

        benchmark.group = "floors"
        benchmark.pedantic(one_round, setup=before, rounds=ROUNDS, warmup_rounds=2)
        figure = FloorFigure(floor, median(ns), reference_name, median(reference_ns))
        floor_figures.append(figure)
        benchmark.extra_info |= {
            "ns": figure.ns,
            "reference": reference_name,
            "reference_ns": figure.reference_ns,
        }

    return measure


def _times(way: Timed) -> int:
    way(16)
    return max(1, int(16 * ROUND_NS / max(1, way(16))))


@pytest.fixture(scope="module")
def echo() -> Iterator[pyruntime.Model]:
    """Through the whole scheduler to an engine that copies."""
    spec = TensorSpec("x", "float32", (-1, COLUMNS))
    with pyruntime.Runtime() as runtime:
        yield runtime.load("m", options=ModelOptions(engine="echo", echo_inputs=(spec,)))


@pytest.fixture(scope="module")
def row() -> dict[str, np.ndarray]:
    return {"x": np.full((1, COLUMNS), 0.5, np.float32)}


def test_queue(beside) -> None:
    beside("queue, push and pop", _probe.queue_ns, "std::mutex, std::queue", _probe.mutex_queue_ns)


@pytest.mark.parametrize("size_bytes", [256, 602_112])
def test_pool(beside, size_bytes) -> None:
    beside(
        f"pool, {size_bytes} bytes",
        lambda times: _probe.pool_ns(times, size_bytes),
        "aligned_alloc, free",
        lambda times: _probe.system_memory_ns(times, size_bytes),
    )


def test_batcher(beside, echo, row) -> None:
    inputs = to_native(echo.inputs, row)
    session = _probe.Session("", echo.options, inputs)
    capsule = echo._model_capsule()
    beside(
        "batcher, echo engine",
        lambda times: _probe.batcher_ns(times, capsule, inputs),
        "the echo session alone",
        session.run_ns,
    )


@pytest.mark.parametrize("name", MODELS)
def test_session(beside, name) -> None:
    path = str(ROOT / "tests" / "models" / f"{name}.onnx")
    with pyruntime.Runtime() as runtime:
        runtime.load(name, path)  # which finds the engine's library
    spec = TensorSpec("x", "float32", (-1, MODELS[name]))
    inputs = to_native([spec], {"x": np.full((1, MODELS[name]), 0.5, np.float32)})
    session = _probe.Session(path, ModelOptions(), inputs)
    bare = _probe.BareRun(_probe.BareSession(path, ModelOptions()), inputs)

    def run_bare(times: int) -> int:
        runs, elapsed_ns, _ = bare.measure(times * 2e-6)
        return int(elapsed_ns * times / runs)

    beside(f"session, {name}", session.run_ns, "C Run, outputs preallocated", run_bare)


def test_codec(beside, echo, row) -> None:
    request = request_bytes("m", "", echo.inputs, row)
    registry = echo._runtime._native.capsule
    message = protocol.message_class("ModelInferRequest")
    answer = protocol.message_class("ModelInferResponse")(model_name="m", model_version="1")
    answer.outputs.add(name="output_0", datatype="FP32", shape=[1, COLUMNS])
    answer.raw_output_contents.append(row["x"].tobytes())

    def codec(times: int) -> int:
        _, _, ns = _probe.measure_codec(registry, request, times * 2e-6)
        return int(np.median(ns) * times)

    def protobuf(times: int) -> int:
        from time import perf_counter_ns

        begin = perf_counter_ns()
        for _ in range(times):
            message.FromString(request)
            answer.SerializeToString()
        return perf_counter_ns() - begin

    beside("codec, decode and encode", codec, "protobuf in Python", protobuf)
