"""Loading on demand, and what a memory budget lets go of."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from repositories import add

from pyruntime import (
    DeadlineExceeded,
    ModelNotFound,
    Overloaded,
    RolloutPlan,
    Runtime,
    StateStore,
    Unavailable,
)
from pyruntime.client import Client
from pyruntime.frontends import FrontEndOptions, front_end
from pyruntime.repository import ModelRepository, RepositoryOptions
from pyruntime.repository.memory import process_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


def leases(repository: ModelRepository, name: str) -> int:
    with repository._lock:
        return repository._records[name].leases


@contextlib.contextmanager
def client_of(repository: ModelRepository) -> Iterator[Client]:
    """Serve it over gRPC."""
    from pyruntime.frontends.management import Management

    options = FrontEndOptions(("127.0.0.1:0",), management=Management(repository))
    server = front_end("grpc")(repository.runtime, options)
    server.start()
    try:
        with Client(server.addresses[0]) as client:
            yield client
    finally:
        server.stop()


def until(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def heavy(path: Path, mib: int) -> None:
    """Write a model that adds `mib` MiB of weights to a number."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.ones((mib, MIB // 4), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["w"], ["one"], keepdims=0),
            helper.make_node("Identity", ["w"], ["held"]),
            helper.make_node("Gather", ["held", "i"], ["row"], axis=0),
            helper.make_node("ReduceMax", ["row"], ["r"], keepdims=0),
            helper.make_node("Add", ["x", "r"], ["y"]),
        ][1:],
        "heavy",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True)
    onnx.save(model, path)


X = {"x": np.ones(1, np.float32), "i": np.array(0)}


@pytest.fixture(scope="module")
def heavy_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heavy")
    for name in ("a", "b", "c"):
        heavy(folder / name / "1" / "model.onnx", 24)
    return folder


def served(repository: ModelRepository) -> list[str]:
    return [model.name for model in repository.runtime.models()]


def test_a_model_is_loaded_by_its_first_request(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    add(tmp_path, "m", 2)
    add(tmp_path, "other")
    (tmp_path / "m" / "model.toml").write_text("[memory]\non_demand = true\n")
    with ModelRepository(tmp_path) as repository:
        assert served(repository) == ["other"]
        (waiting, *_) = repository.index()
        assert waiting.reason == "waits for its first request"
        assert not waiting.is_failed
        assert repository.is_on_demand("m")
        with ThreadPoolExecutor(8) as pool:
            models = list(pool.map(lambda _: repository.model("m", timeout_s=30), range(8)))
        assert {model.version for model in models} == {2}
        assert served(repository) == ["m", "other"]
        with pytest.raises(ModelNotFound):
            repository.model("nobody")


def test_a_deadline_ends_the_wait_and_not_the_load(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    with ModelRepository(tmp_path, options=RepositoryOptions(on_demand=True)) as repository:
        held = threading.Event()
        blocker = repository._threads.submit("blocker", held.wait)
        with pytest.raises(DeadlineExceeded, match="model 'm': not loaded in time"):
            repository.model("m", timeout_s=0.05)
        held.set()
        blocker.result()
        assert repository.model("m", timeout_s=30).version == 1


def test_a_model_that_cannot_be_loaded_says_so_to_each_request(tmp_path: Path) -> None:
    file = add(tmp_path, "m", 1)
    data = file.read_bytes()
    file.write_bytes(b"junk")
    with ModelRepository(tmp_path, options=RepositoryOptions(on_demand=True)) as repository:
        for _ in range(2):
            with pytest.raises(Unavailable, match="model 'm': cannot be loaded"):
                repository.model("m")
        file.write_bytes(data)
        assert repository.model("m").version == 1


def test_the_least_recently_used_goes_and_comes_back(heavy_repository: Path) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        models = {name: repository.model(name) for name in ("a", "b")}
        assert served(repository) == ["a", "b"]
        sizes = [repository.size_bytes(name, 1) for name in ("a", "b")]
        assert all(23 * MIB < size < 40 * MIB for size in sizes), sizes
        models["a"].infer(X)
        repository.model("c")
        assert served(repository) == ["a", "c"]
        # A handle that names no version brings its model back, in each way to call it.
        assert models["b"].infer(X, timeout_s=30)["y"] == 2
        assert "b" in served(repository)
        assert len(served(repository)) == 2
        repository.model("a"), repository.model("c")
        assert "b" not in served(repository)
        assert models["b"].submit(X).result(timeout=30)["y"] == 2
        repository.model("a"), repository.model("c")
        assert asyncio.run(models["b"].infer_async(X))["y"] == 2


def test_what_is_in_use_is_not_unloaded(heavy_repository: Path) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        leases = [repository.bring_in(name) for name in ("a", "b")]
        assert all(lease is not None for lease in leases)
        with pytest.raises(Unavailable, match=r"cannot be loaded: .*memory budget of 76.0 MiB"):
            repository.model("c")
        with pytest.raises(Overloaded, match="memory budget"):
            repository.load("c")
        assert served(repository) == ["a", "b"]
        leases[0].__exit__(None, None, None)  # type: ignore[union-attr]
        repository.load("c")
        assert served(repository) == ["b", "c"]


def test_what_could_not_be_loaded_leaves_no_memory_behind(heavy_repository: Path) -> None:
    options = RepositoryOptions(mode="explicit", memory_budget_bytes=12 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        before = process_bytes()
        for name in ("a", "b", "c"):
            with pytest.raises(Overloaded, match="memory budget"):
                repository.load(name)
        gc.collect()
        assert process_bytes() - before < 24 * MIB


def test_a_call_over_grpc_waits_for_its_model(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    x = np.ones((1, 16), np.float32)
    with (
        ModelRepository(tmp_path, options=RepositoryOptions(on_demand=True)) as repository,
        client_of(repository) as client,
    ):
        held = threading.Event()
        repository._threads.submit("blocker", held.wait)
        name = "x"
        with pytest.raises(DeadlineExceeded):
            client.infer("m", {name: x}, timeout_s=0.2)
        held.set()
        repository.model("m")
        name = repository.runtime.model("m").inputs[0].name
        repository.unload("m")
        with pytest.raises(ModelNotFound):
            client.infer("m", {name: x}, timeout_s=10)
        with repository._lock:
            record = repository._records["m"]
            record.is_served = record.is_waiting = True
        assert client.infer("m", {name: x}, timeout_s=30).version == "1"


def test_a_handle_of_one_version_brings_it_back(heavy_repository: Path) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        exact = repository.model("a", 1)
        repository.model("b"), repository.model("c")
        assert "a" not in served(repository)
        assert exact.infer(X, timeout_s=30)["y"] == 2
        assert exact.version == 1
        assert exact.options is repository.runtime.model("a", 1).options
        repository.model("b"), repository.model("c")
        assert "a" not in served(repository)
        assert exact.submit(X).result(timeout=30)["y"] == 2
        repository.unload("a")
        with pytest.raises(Unavailable, match="unloaded"):
            exact.infer(X)


def test_every_call_of_a_handle_brings_its_version_back(heavy_repository: Path) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        exact = repository.model("a", 1)

        def make_room() -> None:
            repository.model("b"), repository.model("c")
            assert "a" not in served(repository)

        make_room()
        assert asyncio.run(exact.infer_async(X, timeout_s=30))["y"] == 2
        make_room()
        assert exact.infer_routed(X, timeout_s=30)[0]["y"] == 2
        make_room()
        with ThreadPoolExecutor(8) as callers:
            answers = [callers.submit(exact.infer, X, timeout_s=30) for _ in range(32)]
            assert all(answer.result(timeout=60)["y"] == 2 for answer in answers)
        assert leases(repository, "a") == 0


def test_a_version_named_over_grpc_comes_back(heavy_repository: Path) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with (
        ModelRepository(heavy_repository, options=options) as repository,
        client_of(repository) as client,
    ):
        repository.model("a", 1), repository.model("b"), repository.model("c")
        assert "a" not in served(repository)
        answer = client.infer("a", X, version="1", timeout_s=30)
        assert answer.version == "1"
        assert answer.outputs["y"] == 2
        assert leases(repository, "a") == 0


def test_who_gives_up_while_a_model_loads_does_not_keep_it(heavy_repository: Path) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        exact = repository.model("a", 1)
        repository.model("b"), repository.model("c")
        held = threading.Event()

        async def give_up() -> None:
            repository._threads.submit("blocker", held.wait)
            call = asyncio.ensure_future(exact.infer_async(X))
            await asyncio.to_thread(until, lambda: leases(repository, "a") == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            held.set()
            await asyncio.to_thread(until, lambda: leases(repository, "a") == 0)

        try:
            asyncio.run(asyncio.wait_for(give_up(), 30))
        finally:
            held.set()
        repository.model("b"), repository.model("c")
        assert "a" not in served(repository)


def test_a_version_that_is_gone_again_once_loaded_leaves_no_lease(
    heavy_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RepositoryOptions(on_demand=True, memory_budget_bytes=76 * MIB)
    with ModelRepository(heavy_repository, options=options) as repository:
        exact = repository.model("a", 1)
        repository.model("b"), repository.model("c")

        def unloaded(name: str, version: int) -> None:
            raise Unavailable(f"model '{name}' version {version}: unloaded")

        monkeypatch.setattr(repository.runtime, "_options_of", unloaded)
        with pytest.raises(Unavailable, match="unloaded"):
            exact.infer(X, timeout_s=30)
        assert leases(repository, "a") == 0


def test_a_version_that_cannot_come_back_says_why(tmp_path: Path) -> None:
    for version in (1, 2):
        heavy(tmp_path / "a" / str(version) / "model.onnx", 24)
    heavy(tmp_path / "b" / "1" / "model.onnx", 24)
    options = RepositoryOptions(mode="explicit", load=("a",), memory_budget_bytes=100 * MIB)
    with ModelRepository(tmp_path, options=options) as repository:
        repository.load("a", 1)
        with repository._lock:
            repository._records["a"].asked.clear()
        repository.load("a")
        exact = repository.model("a", 1)
        with repository._lock:
            repository._budget._limit = 76 * MIB
        repository.load("b")
        assert [model.version for model in repository.runtime.models()] == [2, 1]
        with repository._lock:
            repository._budget._limit = 200 * MIB
        (tmp_path / "a" / "1" / "model.onnx").write_bytes(b"no model")
        with pytest.raises(Unavailable, match=r"model 'a' version 1: cannot be loaded: .+"):
            exact.infer(X, timeout_s=30)
        assert leases(repository, "a") == 0
        assert repository.runtime.model("a").infer(X)["y"] == 2


def test_a_kept_version_that_made_room_comes_back_for_who_names_it(tmp_path: Path) -> None:
    for version in (1, 2):
        heavy(tmp_path / "a" / str(version) / "model.onnx", 24)
    heavy(tmp_path / "b" / "1" / "model.onnx", 24)
    options = RepositoryOptions(mode="explicit", load=("a",), memory_budget_bytes=100 * MIB)
    with ModelRepository(tmp_path, options=options) as repository:
        repository.load("a", 1)
        repository.unload("a", 1)
        with pytest.raises(ModelNotFound):  # since somebody unloaded it
            repository.model("a", 1)
        repository.load("a", 1)
        with repository._lock:
            repository._records["a"].asked.clear()
        repository.load("a")
        assert repository._records["a"].versions["1"].is_kept
        exact = repository.model("a", 1)
        # A label makes what was kept needed: then another model has to go, and there is none.
        repository.runtime.set_label("a", "old", 1)
        with repository._lock:
            repository._budget._limit = 76 * MIB
        lease = repository.bring_in("a")
        assert lease is not None
        with lease, pytest.raises(Overloaded, match="memory budget"):
            repository.load("b")
        repository.runtime.set_label("a", "old", None)
        repository.load("b")
        assert [model.version for model in repository.runtime.models()] == [2, 1]
        with repository._lock:
            repository._budget._limit = 200 * MIB
        assert exact.infer(X, timeout_s=30)["y"] == 2
        assert exact.version == 1
        assert repository.runtime.model("a").version == 2


def test_a_model_that_is_being_rolled_out_makes_no_room(tmp_path: Path) -> None:
    for name, version in (("a", 1), ("a", 2), ("b", 1)):
        heavy(tmp_path / name / str(version) / "model.onnx", 24)
    (tmp_path / "a" / "model.toml").write_text(
        "[versions]\nall = true\n[labels]\nstable = 1\n[route]\npolicy = 'label'\nlabel = 'stable'"
    )
    options = RepositoryOptions(
        mode="explicit", load=("a",), on_demand=True, memory_budget_bytes=64 * MIB
    )
    with ModelRepository(tmp_path, options=options) as repository:
        repository.model("a")
        repository.runtime.promote("a", 2, RolloutPlan(canary=(50.0,)))
        with pytest.raises(Overloaded, match="memory budget"):
            repository.load("b")
        repository.runtime.rollback("a")
        repository.load("b")
        assert served(repository) == ["b"]
        # All that labels and the route need comes back.
        assert repository.model("a", timeout_s=30).version == 1


def test_a_rollout_goes_on_after_a_restart_without_a_request(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    add(tmp_path, "m", 2)
    add(tmp_path, "other")
    (tmp_path / "m" / "model.toml").write_text(
        "[versions]\nall = true\n[labels]\nstable = 1\n[route]\npolicy = 'label'\nlabel = 'stable'"
    )
    store = StateStore(tmp_path)
    options = RepositoryOptions(on_demand=True)
    for is_first in (True, False):
        with Runtime() as runtime:
            assert runtime.restore_routing(store) == []
            with ModelRepository(tmp_path, runtime=runtime, options=options) as repository:
                if is_first:
                    assert served(repository) == []
                    repository.model("m")
                    runtime.promote("m", 2, RolloutPlan(canary=(50.0,)))
                assert served(repository) == ["m", "m"]
