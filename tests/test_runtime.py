"""Runtime and Model: load, infer, versions, unload, statistics, threads, fork."""

import dataclasses
import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_for_tests import echo, path_of, reference, rows

import pyruntime
from pyruntime import (
    DeadlineExceeded,
    InvalidInput,
    Model,
    ModelNotFound,
    TensorSpec,
    Unavailable,
)


@pytest.fixture
def runtime():
    with pyruntime.Runtime() as runtime:
        yield runtime


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].shape == np.shape(value)
        if ours[name].dtype != object:
            assert ours[name].dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(ours[name], value)


# Results


def numbers(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(7).integers(-5, 6, shape).astype(dtype)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("identity_f32", {"x": numbers(3, 16)}),
    ("identity_bool", {"x": numbers(3, 4) > 0}),
    ("identity_string", {"x": np.array([["a", "", "naïve", "d"]], dtype=object)}),
    *(
        (f"identity_{name}", {"x": numbers(3, 4, dtype=name)})
        for name in ("uint8", "int8", "uint16", "int64", "float16", "float32", "float64")
    ),
    ("static_batch", {"x": numbers(4, 3)}),
    ("any_rank", {"x": numbers(2, 1, 3)}),
    ("add_sub", {"a": numbers(2, 4), "b": numbers(2, 4)}),
    ("mlp_64_256_256_10", {"x": numbers(5, 64)}),
]


@pytest.mark.parametrize(("name", "inputs"), CASES, ids=[name for name, _ in CASES])
def test_results_equal_those_of_onnxruntime(runtime, name, inputs) -> None:
    model = runtime.load(name, path_of(name))
    inputs = dict(zip((spec.name for spec in model.inputs), inputs.values(), strict=True))
    expected = reference(name, inputs)
    assert_same(model.infer(inputs), expected)
    assert_same(model.submit(inputs).result(30), expected)


def test_a_model_is_loaded_from_a_path_a_string_and_bytes(runtime) -> None:
    path = path_of("identity_f32")
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        model = runtime.load("m", source)
        assert_same(model.infer({"x": numbers(1, 16)}), {"y": numbers(1, 16)})


def test_inputs_are_found_by_name_in_any_order_and_mapping(runtime) -> None:
    model = runtime.load("m", path_of("add_sub"))
    a, b = numbers(2, 4), np.ones((2, 4), "f4")
    expected = {"sum": a + b, "difference": a - b}
    assert_same(model.infer({"a": a, "b": b}), expected)
    assert_same(model.infer({"b": b, "a": a}), expected)
    assert_same(model.infer({"".join(["b", ""]): b, "A".lower(): a}), expected)
    assert_same(model.infer(inputs=[("a", a), ("b", b)]), expected)


def test_only_the_outputs_asked_for_are_returned(runtime) -> None:
    model = runtime.load("m", path_of("add_sub"))
    a, b = numbers(2, 4), numbers(2, 4)
    assert_same(model.infer({"a": a, "b": b}, outputs=["difference"]), {"difference": a - b})
    assert set(model.infer({"a": a, "b": b}, outputs=("sum", "difference"))) == {
        "sum",
        "difference",
    }


def test_a_model_describes_itself(runtime) -> None:
    options = pyruntime.ModelOptions(batching=pyruntime.Batching(max_rows=4))
    model = runtime.load("m", path_of("add_sub"), options=options)
    assert model.name == "m"
    assert model.version == 1
    assert model.inputs == (
        TensorSpec("a", "float32", (-1, 4), ("N", "")),
        TensorSpec("b", "float32", (-1, 4), ("N", "")),
    )
    assert [str(spec) for spec in model.outputs] == ["float32[*, 4]"] * 2
    assert model.inputs[0].symbols == ("N", "")
    assert model.is_batchable
    assert model.is_ready
    assert model.options == options
    assert model.metadata["purpose"] == "tests"
    assert repr(model).startswith("<Model m version 1 (a: float32[*, 4]")
    with pytest.raises(TypeError):
        model.metadata["purpose"] = "others"


def test_warm_up_runs_the_model(runtime) -> None:
    model = runtime.load("m", path_of("identity_f32"))
    model.warm_up(rows=2, runs=3)
    assert_same(model.infer({"x": numbers(1, 16)}), {"y": numbers(1, 16)})
    with pytest.raises(InvalidInput, match="warm_up: rows: expected at least 1, got -1"):
        model.warm_up(rows=-1)


def test_warm_up_finds_the_largest_batch_worth_it(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=1000))
    assert model.stats().costs == ()
    model.warm_up()
    (cost,) = model.stats().costs
    assert cost.shapes == ((4,),)
    assert cost.limit == pyruntime.config.MOST_AUTO_ROWS  # further rows cost nothing
    assert [point.rows for point in cost.points] == [2**i for i in range(9)]
    assert all(point.us > 1000 for point in cost.points)
    assert all(point.count == 8 for point in cost.points)


def test_a_deadline_out_of_reach_is_refused_at_once(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=50_000, max_rows=1))
    inputs = {"x": numbers(1, 4)}
    model.infer(inputs)
    running = [model.submit(inputs, timeout_s=10) for _ in range(4)]
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"cannot be met: an answer is expected in .* us, "):
        model.infer(inputs, timeout_s=0.1)
    assert time.monotonic() - start < 0.05
    assert model.infer(inputs, timeout_s=10)
    for future in running:
        future.result()
    assert model.stats().rejected == 1


# Versions


def test_versions_live_side_by_side_and_the_latest_answers(runtime) -> None:
    first = runtime.load("m", path_of("identity_f32"))
    latest = runtime.model("m")
    assert latest.version == 1
    third = runtime.load("m", path_of("add_sub"), version=3)
    second = runtime.load("m", path_of("identity_f32"), version=2)
    assert [model.version for model in runtime.models()] == [1, 2, 3]
    assert runtime.model("m", 2) is second
    assert latest.version == 3
    assert latest.inputs == third.inputs
    assert set(latest.infer({"a": numbers(1, 4), "b": numbers(1, 4)})) == {"sum", "difference"}
    third.unload()
    assert latest.version == 2
    assert set(latest.infer({"x": numbers(1, 16)})) == {"y"}
    assert set(first.infer({"x": numbers(1, 16)})) == {"y"}
    # A number that was freed is not taken for that of a new load below another.
    assert runtime.load("m", path_of("identity_f32")).version == 3


def test_a_version_is_loaded_once(runtime) -> None:
    runtime.load("m", path_of("identity_f32"), version=5)
    with pytest.raises(InvalidInput, match="model 'm': version 5 is loaded already"):
        runtime.load("m", path_of("identity_f32"), version=5)


def test_a_version_is_warmed_up_before_anybody_sees_it() -> None:
    seen: list[tuple[int, int]] = []

    def warm_up(model: Model) -> None:
        model.infer(rows(1))
        model.warm_up()
        seen.append((model.version, len(runtime.models())))

    with pyruntime.Runtime() as runtime:
        runtime.load("m", options=echo(), warm_up=warm_up)
        assert seen == [(1, 0)]
        with pytest.raises(ZeroDivisionError):
            runtime.load("m", options=echo(), warm_up=lambda model: 1 / 0)  # type: ignore[arg-type]
        assert [model.version for model in runtime.models()] == [1]
        assert runtime.load("m", options=echo()).version == 2


def test_a_version_takes_the_place_of_its_predecessor() -> None:
    with pyruntime.Runtime() as runtime:
        old = runtime.load("m", options=echo(), version=5)
        follower = runtime.model("m")
        new = runtime.load("m", options=echo(max_rows=3), version=5, replace=True)
        assert not old.is_ready
        assert new.is_ready
        assert follower.options.batching.max_rows == 3
        assert [model.version for model in runtime.models()] == [5]
        old.unload()  # it is gone, and its successor is not its to unload
        assert new.is_ready


def test_loads_at_once_get_versions_of_their_own(runtime) -> None:
    models = []
    threads = [
        threading.Thread(target=lambda: models.append(runtime.load("m", options=echo())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(model.version for model in models) == list(range(1, 9))


# Unloading


def test_an_unloaded_model_says_so(runtime) -> None:
    model = runtime.load("m", options=echo())
    latest = runtime.model("m")
    model.unload()
    model.unload()
    assert not model.is_ready
    assert not latest.is_ready
    for call in (model.infer, model.submit):
        with pytest.raises(Unavailable, match="model 'm' version 1: unloaded"):
            call(rows(1))
    for use in (model.stats, model.warm_up, lambda: model.options):
        with pytest.raises(Unavailable, match="model 'm' version 1: unloaded"):
            use()
    with pytest.raises(ModelNotFound, match="model 'm'"):
        latest.infer(rows(1))
    assert model.inputs[0].name == "x"


def test_unloading_answers_what_was_accepted_first(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=20_000, max_rows=1))
    futures = [model.submit(rows(i)) for i in range(5)]
    model.unload()
    assert [future.result(0.5)["output_0"][0, 0] for future in futures] == [0, 1, 2, 3, 4]


def test_a_handle_of_an_old_load_does_not_reach_the_new_one(runtime) -> None:
    old = runtime.load("m", options=echo(), version=1)
    old.unload()
    new = runtime.load("m", options=echo(), version=1)
    with pytest.raises(Unavailable):
        old.infer(rows(1))
    old.unload()
    assert new.infer(rows(1))["output_0"][0, 0] == 1


def test_unloading_all_versions(runtime) -> None:
    for _ in range(3):
        runtime.load("m", options=echo())
    runtime.load("other", options=echo())
    runtime.unload("m")
    assert [model.name for model in runtime.models()] == ["other"]


def test_context_managers_unload_and_close() -> None:
    with pyruntime.Runtime() as runtime:
        with runtime.load("m", options=echo()) as model:
            model.infer(rows(1))
        with pytest.raises(ModelNotFound):
            runtime.model("m")
        other = runtime.load("m", options=echo())
    with pytest.raises(Unavailable):
        other.infer(rows(1))
    with pytest.raises(Unavailable, match="the runtime has closed"):
        runtime.load("m", options=echo())
    runtime.close()


def test_a_model_keeps_its_runtime() -> None:
    model = pyruntime.Runtime().load("m", options=echo())
    gc.collect()
    assert model.infer(rows(1))["output_0"][0, 0] == 1


def test_stopping_and_draining(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=30_000, max_rows=1))
    futures = [model.submit(rows(i)) for i in range(3)]
    runtime.stop_accepting()
    assert not model.is_ready
    with pytest.raises(Unavailable, match="'m'"):
        model.infer(rows(1))
    with pytest.raises(Unavailable, match="model 'n': the runtime has stopped accepting requests"):
        runtime.load("n", options=echo())
    assert not runtime.drain(timeout_s=0.001)
    assert runtime.drain(timeout_s=10)
    assert all(future.result(1) for future in futures)


def resident_mb() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE") / 1e6


def test_memory_returns_after_unload(runtime) -> None:
    value = {"x": np.ones((4000, 1000), "f4")}

    def load_and_use() -> None:
        model = runtime.load("m", options=echo(shape=(-1, 1000)))
        for _ in range(4):
            model.infer(value)
        model.unload()

    load_and_use()
    before = resident_mb()
    for _ in range(8):
        load_and_use()
    assert resident_mb() < before + 16


# Statistics


def test_statistics_count_what_happened(runtime) -> None:
    model = runtime.load("m", options=echo(fail_value=13))
    for i in range(1, 6):
        model.infer(rows(i, count=i))
    with pytest.raises(pyruntime.EngineError):
        model.infer(rows(13))
    model.infer({"x": np.ones((4, 1), "f4").T})
    stats = model.stats()
    assert stats.accepted == 7
    assert stats.completed == 6
    assert stats.failed == 1
    assert stats.cancelled == stats.expired == stats.rejected == 0
    assert stats.rows == 16
    assert stats.inputs_copied == 0
    assert stats.replaced == stats.stuck == stats.stuck_since_unix_ms == 0
    assert stats.total.count == 6
    assert 0 < stats.total.p50_us <= stats.total.p99_us <= stats.total.max_us
    assert stats.total.sum_ns == pytest.approx(stats.total.mean_us * 6e3)
    assert stats.failed_total.count == 1
    assert {size.rows for size in stats.by_batch_rows} >= {1, 2, 3, 4, 5}
    assert abs(stats.last_completed_unix_ms / 1e3 - time.time()) < 60
    assert stats.pool.held_bytes >= stats.pool.used_bytes


def test_a_run_that_takes_too_long_is_counted_and_reported(runtime, capfd) -> None:
    options = dataclasses.replace(echo(delay_us=400_000), stuck_after_s=0.05)
    model = runtime.load("m", options=options)
    future = model.submit(rows(1))
    deadline = time.monotonic() + 10
    while model.stats().stuck == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert abs(model.stats().stuck_since_unix_ms / 1e3 - time.time()) < 60
    assert future.result(10)
    assert model.stats().stuck == 0
    assert capfd.readouterr().err == (
        "pyruntime: model 'm' version 1: instance 0 on cpu: a run has not completed within 0.05 s\n"
    )


# Threads and the GIL


def test_the_gil_is_free_while_a_model_runs(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=300_000))
    progress = 0
    running = True

    def count() -> None:
        nonlocal progress
        while running:
            progress += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    model.infer(rows(1))
    running = False
    counter.join()
    assert progress > 50


@pytest.mark.parametrize("slow", ["unload", "close"])
def test_the_gil_is_free_while_a_model_drains(slow) -> None:
    runtime = pyruntime.Runtime()
    model = runtime.load("m", options=echo(delay_us=100_000, max_rows=1))
    futures = [model.submit(rows(i)) for i in range(3)]
    drain = threading.Thread(target=model.unload if slow == "unload" else runtime.close)
    drain.start()
    progress = 0
    while drain.is_alive():
        progress += 1
        time.sleep(0.001)
    assert progress > 50
    assert all(future.done() or future.result(1) for future in futures)
    runtime.close()


def test_many_threads_get_their_own_answers_while_versions_change(runtime) -> None:
    runtime.load("m", options=echo())
    latest = runtime.model("m")
    errors: list[BaseException] = []
    deadline = time.monotonic() + 2
    calls = 0

    def call(thread: int) -> None:
        nonlocal calls
        rng = np.random.default_rng(thread)
        try:
            while time.monotonic() < deadline:
                value = rng.random((int(rng.integers(1, 40)), 4), "f4")
                if rng.random() < 0.5:
                    got = latest.infer({"x": value})
                else:
                    got = latest.submit({"x": value}).result(30)
                np.testing.assert_array_equal(got["output_0"], value)
                calls += 1
        except BaseException as error:
            errors.append(error)

    def swap() -> None:
        try:
            while time.monotonic() < deadline:
                new = runtime.load("m", options=echo())
                runtime.unload("m", new.version - 1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    threads.append(threading.Thread(target=swap))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert calls > 100


def test_the_public_calls_are_documented() -> None:
    for name in pyruntime.__all__:
        value = getattr(pyruntime, name)
        assert name.startswith("__") or value.__doc__, name
    for owner in (pyruntime.Model, pyruntime.Runtime):
        for name in dir(owner):
            if not name.startswith("_"):
                assert getattr(owner, name).__doc__ or name == "name", name
