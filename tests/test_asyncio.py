"""infer_async: many completions per wake of a loop, cancellation, loops that end."""

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from models_for_tests import echo, path_of, reference, rows

import pyruntime
from pyruntime import DeadlineExceeded, InvalidInput, Overloaded, Unavailable, event_loops


@pytest.fixture
def runtime():
    with pyruntime.Runtime() as runtime:
        yield runtime


async def test_results_equal_those_of_onnxruntime(runtime) -> None:
    model = runtime.load("m", path_of("mlp_64_256_256_10"))
    name = model.inputs[0].name
    values = [np.random.default_rng(i).random((i % 3 + 1, 64), "f4") for i in range(20)]
    results = await asyncio.gather(*(model.infer_async({name: value}) for value in values))
    for value, result in zip(values, results, strict=True):
        for output, expected in reference("mlp_64_256_256_10", {name: value}).items():
            np.testing.assert_allclose(result[output], expected, rtol=1e-5, atol=1e-6)


async def test_one_wake_of_the_loop_delivers_many(runtime, monkeypatch) -> None:
    wakes = []
    drain = event_loops._Drain.__call__

    def counting(self) -> None:
        wakes.append(None)
        drain(self)

    monkeypatch.setattr(event_loops._Drain, "__call__", counting)
    model = runtime.load("m", options=echo(delay_us=2000, max_rows=64))
    results = await asyncio.gather(*(model.infer_async(rows(i)) for i in range(640)))
    assert [result["output_0"][0, 0] for result in results] == list(range(640))
    assert len(wakes) < 160


async def test_the_loop_runs_on_while_a_model_runs(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=200_000))
    task = asyncio.create_task(model.infer_async(rows(1)))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 30
    assert (await task)["output_0"][0, 0] == 1


async def test_errors_are_raised_where_they_are_awaited(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=20_000, max_rows=1, queue_capacity=2))
    with pytest.raises(InvalidInput, match="input 'x' is missing"):
        await model.infer_async({})
    tasks = [asyncio.create_task(model.infer_async(rows(i))) for i in range(8)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert any(isinstance(outcome, dict) for outcome in outcomes)
    running = asyncio.create_task(model.infer_async(rows(1)))
    await asyncio.sleep(0.005)
    with pytest.raises(DeadlineExceeded):
        await model.infer_async(rows(1), timeout_s=0.001)
    await running
    model.unload()
    with pytest.raises(Unavailable, match="model 'm' version 1: unloaded"):
        await model.infer_async(rows(1))


async def test_cancelling_a_task_cancels_its_request(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=30_000, max_rows=1))
    tasks = [asyncio.create_task(model.infer_async(rows(i))) for i in range(5)]
    await asyncio.sleep(0.01)
    for task in tasks[3:]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [dict] * 3 + [asyncio.CancelledError] * 2
    assert model.stats().cancelled == 2


async def test_a_timeout_of_asyncio_cancels_the_request(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=50_000, max_rows=1))
    first = asyncio.create_task(model.infer_async(rows(1)))
    await asyncio.sleep(0.005)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(model.infer_async(rows(2)), 0.005)
    await first
    assert model.stats().cancelled == 1


async def test_inputs_live_until_a_cancelled_request_has_run(runtime) -> None:
    class Array(np.ndarray):
        pass

    model = runtime.load("m", options=echo(delay_us=200_000, max_rows=2000))
    value = np.ones((1000, 4), "f4").view(Array)
    seen = weakref.ref(value)
    first = asyncio.create_task(model.infer_async(rows(1)))
    await asyncio.sleep(0.02)
    task = asyncio.create_task(model.infer_async({"x": value}))
    company = asyncio.create_task(model.infer_async(rows(2)))  # keeps their run going
    del value
    await first
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert seen() is not None
    await company
    await asyncio.to_thread(runtime.drain, 10)
    await asyncio.sleep(0.01)
    gc.collect()
    assert seen() is None


def test_a_loop_may_close_before_its_requests_are_done(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=20_000, max_rows=1))
    seen = []

    async def start() -> None:
        for i in range(5):
            value = rows(i)
            task = asyncio.create_task(model.infer_async(value))
            seen.append(weakref.ref(value["x"]))
            await asyncio.sleep(0)
            del task
        await asyncio.sleep(0.005)

    asyncio.run(start())
    assert runtime.drain(10)
    deadline = time.monotonic() + 5
    while any(ref() is not None for ref in seen) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert [ref() for ref in seen] == [None] * 5
    # A new loop is served as the first was.
    assert asyncio.run(model.infer_async(rows(9)))["output_0"][0, 0] == 9


def test_loops_of_several_threads_get_their_own_results(runtime) -> None:
    model = runtime.load("m", options=echo())
    failures: list[BaseException] = []

    async def call(thread: int) -> None:
        for _ in range(20):
            values = [thread * 1000 + i for i in range(20)]
            results = await asyncio.gather(*(model.infer_async(rows(v)) for v in values))
            assert [result["output_0"][0, 0] for result in results] == values

    def run(thread: int) -> None:
        try:
            asyncio.run(call(thread))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_loops_leave_no_file_open(runtime) -> None:
    model = runtime.load("m", options=echo())
    asyncio.run(model.infer_async(rows(1)))
    gc.collect()
    before = open_files()
    for _ in range(20):
        asyncio.run(model.infer_async(rows(1)))
    gc.collect()
    assert open_files() <= before + 1


async def test_all_calls_mix_on_one_model(runtime) -> None:
    model = runtime.load("m", options=echo())

    async def call(i: int) -> None:
        if i % 3 == 0:
            result = await model.infer_async(rows(i))
        elif i % 3 == 1:
            result = await asyncio.to_thread(model.infer, rows(i))
        else:
            result = await asyncio.wrap_future(model.submit(rows(i)))
        assert result["output_0"][0, 0] == i

    await asyncio.gather(*(call(i) for i in range(300)))
    stats = model.stats()
    assert stats.accepted == stats.completed == 300
