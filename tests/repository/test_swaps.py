"""Versions swapped under full gRPC load. PYRUNTIME_SWAPS=1000 makes it the long proof."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pyruntime.client import Client
from pyruntime.frontends import FrontEndOptions, front_end
from pyruntime.repository import ModelRepository, RepositoryOptions
from pyruntime.repository.memory import process_bytes

SWAPS = int(os.environ.get("PYRUNTIME_SWAPS", "40"))
CALLERS = 8
X = np.zeros((1, 8), np.float32)


def write(root: Path, version: int) -> None:
    """Add a version whose answers are its own number."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "number"], ["y"])],
        "numbered",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(np.full(8, version, np.float32), "number")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    folder = root / "m" / str(version)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


class Caller(threading.Thread):
    """Asks without a pause, and holds each answer against the version that it names."""

    def __init__(self, address: str, over: threading.Event) -> None:
        super().__init__()
        self._address = address
        self._over = over
        self.answers = 0
        self.versions: set[int] = set()
        self.faults: list[object] = []

    def run(self) -> None:
        with Client(self._address) as client:
            while not self._over.is_set():
                try:
                    answer = client.infer("m", {"x": X}, timeout_s=60)
                except Exception as error:
                    self.faults.append(error)
                    continue
                self.answers += 1
                version = int(answer.version)
                self.versions.add(version)
                if not (answer.outputs["y"] == version).all():
                    self.faults.append((version, answer.outputs["y"]))


@pytest.mark.timeout(120 + SWAPS)
def test_no_request_fails_or_mixes_versions_while_they_are_swapped(tmp_path: Path) -> None:
    write(tmp_path, 1)
    options = RepositoryOptions(mode="explicit", load=("m",))
    with ModelRepository(tmp_path, options=options) as repository:
        server = front_end("grpc")(repository.runtime, FrontEndOptions(("127.0.0.1:0",)))
        server.start()
        over = threading.Event()
        callers = [Caller(server.addresses[0], over) for _ in range(CALLERS)]
        try:
            for caller in callers:
                caller.start()
            levels, resident = [], []
            for version in range(2, SWAPS + 2):
                write(tmp_path, version)
                repository.load("m")
                if version > 3:
                    shutil.rmtree(tmp_path / "m" / str(version - 2))
                if version % max(SWAPS // 10, 1) == 0:
                    gc.collect()
                    levels.append(process_bytes())
                    resident.append(resident_bytes())
        finally:
            over.set()
            for caller in callers:
                caller.join()
            server.stop()
        assert [fault for caller in callers for fault in caller.faults] == []
        seen = set().union(*(caller.versions for caller in callers))
        assert max(seen) <= SWAPS + 1
        assert len(seen) > SWAPS // 4
        assert [model.version for model in repository.runtime.models()] == [SWAPS, SWAPS + 1]
    # Flat: what the second half of the swaps adds is no more than noise.
    half = len(levels) // 2
    assert min(levels[half:]) < max(levels[:half]) + (4 << 20), levels
    print(f"{sum(caller.answers for caller in callers)} answers of {len(seen)} versions")
    print(f"MiB allocated {in_mib(levels)}, resident {in_mib(resident)}")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_mib(sizes: list[int]) -> list[float]:
    return [round(size / 2**20, 1) for size in sizes]
