"""All ways in at once, against one set of models, for some seconds.

Threads, futures, event loops and gRPC clients send requests of unequal shapes, row counts and
priorities, give some up, set deadlines that cannot always be kept, while versions come and go.
Every answer has to be the one that the request gets alone, and the counters have to add up.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from models_for_tests import path_of, reference

import pyruntime
from pyruntime import Batching, InstanceGroup, ModelOptions, TensorSpec
from pyruntime.client import Client, infer_request
from pyruntime.frontends import FrontEndOptions, front_end, protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.telemetry import ModelStats

SEED = 20_240_229
SECONDS = 10.0
LEAST_ANSWERS = 3000
MODELS = ("echo", "identity", "strings", "mlp", "gather", "swapped")

Inputs = dict[str, np.ndarray[Any, Any]]
# What a request may end with instead of an answer.
REFUSALS = (
    pyruntime.Overloaded,
    pyruntime.DeadlineExceeded,
    pyruntime.Cancelled,
    CancelledError,
    asyncio.CancelledError,
)


@cache
def mlp_table() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows for the MLP, and the answer that each gets alone."""
    rows = np.random.default_rng(SEED).standard_normal((64, 64), np.float32)
    answers = [
        reference("mlp_64_256_256_10", {"x": rows[i : i + 1]})["y"] for i in range(len(rows))
    ]
    return rows, np.concatenate(answers)


@dataclass(frozen=True)
class Asked:
    """A request, and the answer it has to get; None: the engine's error.

    is_exact: to the bit.
    """

    model: str
    inputs: Inputs
    output: str
    answer: np.ndarray[Any, Any] | None
    is_exact: bool = True

    def check(self, outputs: Inputs) -> None:
        (got,) = outputs.values()
        assert set(outputs) == {self.output}
        assert self.answer is not None, f"{self.model}: expected an error, got {got}"
        assert got.shape == self.answer.shape, f"{self.model}: {got.shape}"
        if not self.is_exact:
            np.testing.assert_allclose(got, self.answer, rtol=1e-4, atol=1e-5)
            return
        if got.dtype == object:
            got = np.vectorize(lambda s: s.decode() if isinstance(s, bytes) else s, "O")(got)
        np.testing.assert_array_equal(got, self.answer, err_msg=self.model)


def ask(rng: random.Random, model: str = "") -> Asked:
    """Make up a request, for any model unless one is named."""
    model = model or rng.choice(MODELS)
    rows = rng.choice((1, 1, 1, 2, 3, 8))
    if model == "mlp":
        table, answers = mlp_table()
        start = rng.randrange(len(table) - rows)
        picked = slice(start, start + rows)
        return Asked(model, {"x": table[picked]}, "y", answers[picked], is_exact=False)
    if model == "gather":
        indices = np.array([rng.randrange(3) for _ in range(rows)])
        if rng.random() < 0.1:
            indices[-1] = 7  # out of range; the table has three rows
            return Asked(model, {"index": indices}, "row", None)
        answer = np.arange(6, dtype=np.float32).reshape(3, 2)[indices]
        return Asked(model, {"index": indices}, "row", answer)
    if model == "strings":
        texts = [[f"{rng.random()}\0" * rng.randrange(4) for _ in range(4)] for _ in range(rows)]
        array = np.array(texts, object)
        return Asked(model, {"x": array}, "y", array)
    columns = rng.choice((1, 3, 16, 700)) if model == "echo" else 16
    values = np.frombuffer(rng.randbytes(4 * rows * columns), np.int32).astype(np.float32)
    array = values.reshape(rows, columns)
    return Asked(model, {"x": array}, "output_0" if model == "echo" else "y", array)


@dataclass
class Scene:
    """What the workers share. Counters are added to under the lock."""

    runtime: pyruntime.Runtime
    until: float
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[BaseException] = field(default_factory=list)
    unloaded: list[ModelStats] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def goes_on(self) -> bool:
        return time.monotonic() < self.until and not self.faults

    def count(self, way: str, end: object) -> None:
        with self.lock:
            self.ends[f"{way} {end}"] += 1

    def model(self, name: str) -> pyruntime.Model:
        return self.runtime.model(name)

    def settle(self, way: str, asked: Asked, wait: Callable[[], Inputs]) -> None:
        """Wait for the answer and check it, or count what came instead."""
        end = "answered"
        try:
            asked.check(wait())
        except pyruntime.InvalidInput as error:  # what the engine says of a bad index
            if asked.answer is not None:
                raise
            end = type(error).__name__
        except REFUSALS as error:
            end = type(error).__name__
        self.count(way, end)


def limits(rng: random.Random) -> dict[str, Any]:
    """Choose priority and, now and then, a deadline that may pass in the queue."""
    chosen: dict[str, Any] = {"priority": rng.choice(("high", "normal", "low"))}
    if rng.random() < 0.2:
        chosen["timeout_s"] = rng.uniform(1e-4, 5e-3)
    return chosen


def call_blocking(scene: Scene, rng: random.Random) -> None:
    while scene.goes_on():
        asked = ask(rng)
        model, keywords = scene.model(asked.model), limits(rng)
        scene.settle("infer", asked, partial(model.infer, asked.inputs, **keywords))


def call_by_futures(scene: Scene, rng: random.Random) -> None:
    while scene.goes_on():
        burst = []
        flood = ask(rng, "echo") if rng.random() < 0.1 else None  # more than a queue holds
        for _ in range(rng.randrange(1, 48) if flood is None else 64):
            asked = flood or ask(rng)
            keywords = limits(rng) if flood is None else {}
            try:
                future = scene.model(asked.model).submit(asked.inputs, **keywords)
            except (pyruntime.Overloaded, pyruntime.DeadlineExceeded) as error:
                scene.count("submit", type(error).__name__)
                continue
            burst.append((asked, future))
            if rng.random() < 0.15:
                rng.choice(burst)[1].cancel()
        for asked, future in burst:
            scene.settle("submit", asked, partial(future.result, timeout=30))


def call_by_tasks(scene: Scene, rng: random.Random) -> None:
    async def one(asked: Asked, keywords: dict[str, Any]) -> Inputs:
        return await scene.model(asked.model).infer_async(asked.inputs, **keywords)

    async def burst() -> None:
        tasks = []
        for _ in range(rng.randrange(1, 48)):
            asked = ask(rng)
            tasks.append((asked, asyncio.ensure_future(one(asked, limits(rng)))))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
            if rng.random() < 0.15:
                rng.choice(tasks)[1].cancel()
        await asyncio.wait([task for _, task in tasks], timeout=30)
        for asked, task in tasks:
            scene.settle("infer_async", asked, task.result)

    async def bursts() -> None:
        while scene.goes_on():
            await burst()

    asyncio.run(bursts())


def call_by_grpc(address: str) -> Callable[[Scene, random.Random], None]:
    def work(scene: Scene, rng: random.Random) -> None:
        with Client(address) as client:
            while scene.goes_on():
                asked = ask(rng)
                timeout_s = rng.uniform(1e-3, 2e-2) if rng.random() < 0.2 else 30
                call = partial(client.infer, asked.model, asked.inputs, timeout_s=timeout_s)
                scene.settle("gRPC", asked, lambda call=call: call().outputs)

    return work


def cancel_by_grpc(address: str) -> Callable[[Scene, random.Random], None]:
    """Send calls and give up half of them."""

    def call(scene: Scene, rng: random.Random) -> None:
        with grpc.insecure_channel(address) as channel:
            infer = channel.unary_unary(protocol.path("ModelInfer"))
            while scene.goes_on():
                futures = []
                for _ in range(8):
                    asked = ask(rng)
                    if asked.answer is None:
                        continue
                    request = infer_request(asked.model, asked.inputs).SerializeToString()
                    futures.append(infer.future(request, timeout=30))
                    time.sleep(rng.uniform(0, 1e-3))
                for future in rng.sample(futures, len(futures) // 2):
                    future.cancel()
                for future in futures:
                    code = future.code()
                    expected = {
                        grpc.StatusCode.OK,
                        grpc.StatusCode.CANCELLED,
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                    }
                    assert code in expected, future.details()
                    scene.count("gRPC future", code.name)

    return call


def swap_versions(scene: Scene, rng: random.Random) -> None:
    """Load a version and unload the one before it, again and again."""
    while scene.goes_on():
        before = scene.runtime.model("swapped", scene.model("swapped").version)
        scene.runtime.load("swapped", path_of("identity_f32"))
        time.sleep(rng.uniform(0, 0.02))
        native = before._native()
        before.unload()
        scene.unloaded.append(pyruntime.telemetry.ModelStats.from_native(native.stats()))


@pytest.fixture
def scene() -> Iterator[Scene]:
    mlp_table()
    echo = ModelOptions(
        engine="echo",
        echo_inputs=(TensorSpec("x", "float32", (-1, -1)),),
        batching=Batching(max_rows=16, queue_capacity=4),
        instances=(InstanceGroup(count=2),),
        config={"echo.delay_us": "300"},
    )
    with pyruntime.Runtime() as runtime:
        runtime.load("echo", options=echo)
        runtime.load("identity", path_of("identity_f32"))
        runtime.load("strings", path_of("identity_string"))
        runtime.load("mlp", path_of("mlp_64_256_256_10"))
        runtime.load("gather", path_of("gather_row"))
        runtime.load("swapped", path_of("identity_f32"))
        yield Scene(runtime, until=time.monotonic() + SECONDS)


def run_all(scene: Scene, workers: list[Callable[[Scene, random.Random], None]]) -> None:
    def work(index: int) -> None:
        try:
            workers[index](scene, random.Random(SEED + index))
        except BaseException as error:
            scene.faults.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 60)
    assert not any(thread.is_alive() for thread in threads)
    if scene.faults:
        raise scene.faults[0]


def test_every_answer_is_the_unbatched_one_and_the_counters_add_up(scene, tmp_path) -> None:
    with ExitStack() as stack:
        options = FrontEndOptions(addresses=("127.0.0.1:0", f"unix:{tmp_path / 'socket'}"))
        server = front_end("grpc")(scene.runtime, options)
        server.start()
        stack.callback(server.stop)
        run_all(
            scene,
            [
                *[call_blocking] * 4,
                *[call_by_futures] * 2,
                *[call_by_tasks] * 2,
                *[call_by_grpc(address) for address in server.addresses],
                cancel_by_grpc(server.addresses[0]),
                swap_versions,
            ],
        )
        assert server.drain(30)
    assert scene.runtime.drain(30)

    ends = scene.ends
    print(dict(sorted(ends.items())), "versions:", len(scene.unloaded) + 1)
    answered = seen(ends, "answered") + seen(ends, "OK")
    assert answered >= LEAST_ANSWERS
    for way in ("infer", "submit", "infer_async", "gRPC"):
        for end in ("answered", "DeadlineExceeded"):
            assert ends[f"{way} {end}"] > 0, f"{way} {end}"
    assert seen(ends, "InvalidInput") > 0
    for end in ("submit CancelledError", "infer_async CancelledError", "gRPC future CANCELLED"):
        assert ends[end] > 0, end
    assert len(scene.unloaded) > 10

    gc.collect()
    every = [*(model.stats() for model in scene.runtime.models()), *scene.unloaded]
    for stats in every:
        assert stats.accepted == stats.completed + stats.failed + stats.cancelled, stats
        assert stats.pool.exhaustions == 0, stats
    assert sum(stats.completed for stats in every) >= answered
    assert sum(stats.cancelled for stats in every) > 0
    assert sum(stats.rejected for stats in every) >= seen(ends, "Overloaded") > 0
    assert sum(stats.failed - stats.expired for stats in every) >= seen(ends, "InvalidInput")
    assert sum(stats.batches for stats in every) < sum(stats.completed for stats in every)


def seen(ends: Counter[str], end: str) -> int:
    """How often requests ended so, whatever way they came."""
    return sum(count for name, count in ends.items() if name.endswith(f" {end}"))
