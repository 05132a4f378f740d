"""Futures: results, cancellation, deadlines, overload, one thread for many."""

import asyncio
import concurrent.futures
import threading
import time

import numpy as np
import pytest
from models_for_tests import echo, path_of, rows

import pyruntime
from pyruntime import DeadlineExceeded, Overloaded, completions


@pytest.fixture
def runtime():
    with pyruntime.Runtime() as runtime:
        yield runtime


@pytest.fixture
def slow(runtime):
    """One request at a time, 50 ms each."""
    return runtime.load("slow", options=echo(delay_us=50_000, max_rows=1))


def test_futures_are_pythons_own(runtime) -> None:
    model = runtime.load("m", options=echo())
    futures = [model.submit(rows(i)) for i in range(1000)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    done, not_done = concurrent.futures.wait(futures, timeout=30)
    assert not not_done
    assert len(done) == 1000
    assert [future.result()["output_0"][0, 0] for future in futures] == list(range(1000))
    assert not futures[0].cancel()
    assert not futures[0].cancelled()


def test_one_thread_resolves_all_futures(runtime) -> None:
    names = set()
    model = runtime.load("m", options=echo(delay_us=1000))
    futures = [model.submit(rows(i)) for i in range(50)]
    for future in futures:
        future.add_done_callback(lambda _: names.add(threading.current_thread().name))
    concurrent.futures.wait(futures, timeout=30)
    time.sleep(0.05)
    assert names <= {"pyruntime-futures", "MainThread"}
    assert sum(t.name == "pyruntime-futures" for t in threading.enumerate()) == 1


def test_a_waiting_request_can_be_cancelled(slow) -> None:
    first, second, third = (slow.submit(rows(i)) for i in range(3))
    assert third.cancel()
    assert third.cancel()
    assert third.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        third.result(5)
    assert first.result(5)["output_0"][0, 0] == 0
    assert second.result(5)["output_0"][0, 0] == 1
    assert not second.cancel()
    stats = slow.stats()
    assert stats.cancelled == 1
    assert stats.completed == 2
    done, _ = concurrent.futures.wait([third], timeout=5)
    assert done == {third}


def test_a_run_ends_when_its_only_request_is_cancelled(runtime) -> None:
    model = runtime.load("endless", options=echo(delay_us=60_000_000))
    future = model.submit(rows(7))
    time.sleep(0.02)
    assert not future.cancel()  # it runs: it is only asked
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(5)
    assert future.cancelled()
    assert model.stats().cancelled == 1


def test_a_run_goes_on_for_those_who_want_its_results(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=300_000))
    first = model.submit(rows(0))
    time.sleep(0.02)
    second, third = model.submit(rows(1)), model.submit(rows(2))
    first.result(5)  # the others run together now
    time.sleep(0.01)
    second.cancel()
    assert third.result(5)["output_0"][0, 0] == 2
    with pytest.raises(concurrent.futures.CancelledError):
        second.result(5)


def test_cancelling_from_many_threads_loses_nothing(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=200, max_rows=4))
    rng = np.random.default_rng(3)
    outcomes = {"cancelled": 0, "completed": 0}
    lock = threading.Lock()

    def work() -> None:
        for _ in range(200):
            future = model.submit(rows(1))
            if rng.random() < 0.5:
                future.cancel()
            try:
                future.result(30)
                outcome = "completed"
            except concurrent.futures.CancelledError:
                outcome = "cancelled"
            with lock:
                outcomes[outcome] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runtime.drain(10)
    stats = model.stats()
    assert stats.accepted == 800 == stats.completed + stats.cancelled
    assert outcomes == {"cancelled": stats.cancelled, "completed": stats.completed}


def test_a_deadline_that_passes_in_the_queue_is_exceeded(slow) -> None:
    first = slow.submit(rows(1))
    time.sleep(0.02)  # it runs: else the one with a deadline would go before it
    second = slow.submit(rows(2), timeout_s=0.01)
    with pytest.raises(DeadlineExceeded, match="deadline passed"):
        second.result(5)
    assert first.result(5)
    blocking = slow.submit(rows(1))
    with pytest.raises(DeadlineExceeded, match="deadline cannot be met"):
        slow.infer(rows(2), timeout_s=0.01)
    with pytest.raises(TimeoutError):
        slow.infer(rows(2), timeout_s=-1)
    assert blocking.result(5)
    assert slow.infer(rows(3), timeout_s=60)["output_0"][0, 0] == 3
    assert slow.infer(rows(3), timeout_s=float("inf"))["output_0"][0, 0] == 3


def test_a_full_queue_answers_at_once(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=50_000, max_rows=1, queue_capacity=2))
    futures = []
    begin = time.monotonic()
    with pytest.raises(Overloaded, match="'m'"):
        futures.extend(model.submit(rows(i)) for i in range(10))
    assert time.monotonic() - begin < 0.04
    assert [future.result(5)["output_0"][0, 0] for future in futures] == list(range(len(futures)))
    assert model.stats().rejected == 1


def test_requests_of_high_priority_go_first(slow) -> None:
    order = []
    futures = [slow.submit(rows(0))]
    for name in ("low", "normal", "high"):
        futures.append(slow.submit(rows(1), priority=name))
        futures[-1].add_done_callback(lambda _, name=name: order.append(name))
    concurrent.futures.wait(futures, timeout=10)
    assert order == ["high", "normal", "low"]


def test_inputs_may_go_out_of_scope_before_they_are_read(slow) -> None:
    futures = []
    for i in range(4):
        value = np.full((50_000, 4), i, "f4")
        futures.append(slow.submit({"x": value}))
        del value
    for i, future in enumerate(futures):
        result = future.result(10)["output_0"]
        assert result.min() == result.max() == i


def test_a_callback_that_fails_harms_no_other_future(runtime, caplog) -> None:
    model = runtime.load("m", options=echo(delay_us=1000, max_rows=1))
    futures = [model.submit(rows(i)) for i in range(3)]
    futures[0].add_done_callback(lambda _: 1 / 0)
    assert futures[2].result(5)["output_0"][0, 0] == 2


def test_a_future_can_be_awaited(runtime) -> None:
    model = runtime.load("m", path_of("identity_f32"))

    async def call() -> float:
        future = model.submit({"x": np.full((1, 16), 3, "f4")})
        return (await asyncio.wrap_future(future))["y"][0, 0]

    assert asyncio.run(call()) == 3


def test_the_thread_ends_and_starts_again(runtime) -> None:
    model = runtime.load("m", options=echo())
    assert model.submit(rows(1)).result(5)
    completions.stop()
    assert not any(t.name == "pyruntime-futures" for t in threading.enumerate())
    assert model.submit(rows(1)).result(5)
