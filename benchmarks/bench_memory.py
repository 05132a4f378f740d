"""Resident memory over many loads and unloads of a large model, with requests in between.

    python -P benchmarks/bench_memory.py [--loads 30] [--size-mb 100]

The model is written to a temporary folder. Once with this project and once with ONNX Runtime's own
module alone, each in a process of its own; before is what is resident once the engine's library
is loaded and a small model has come and gone. Prints a line for every tenth load and, at the end,
one line of JSON. What glibc's malloc alone keeps is told apart by asking it to give that back,
after the last figure was taken.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import struct
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import pyruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL = Path(__file__).parents[1] / "tests" / "models" / "mlp_64_256_256_10.onnx"
LAYERS = 4


def resident_mb() -> tuple[float, float]:
    """MB of all that is resident, and of what of it is no file's."""
    kb = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        kb[name] = int(value.split()[0])
    return kb["Rss"] * 1024 / 1e6, kb["Anonymous"] * 1024 / 1e6


# ONNX's protobuf, written by hand: 100 MB need no library, and no copy in Python's memory.


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def float_value_info(name: str, columns: int) -> bytes:
    """ValueInfoProto of float32[N, columns]."""
    shape = field(1, field(2, "N")) + field(1, field(1, columns))
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def pieces_of_model(width: int) -> Iterator[bytes]:
    """ModelProto of LAYERS layers y = x w, w float32[width, width]."""
    values = ["x", *(f"layer_{i}" for i in range(1, LAYERS)), "y"]
    # What the multiplication keeps the size of: no infinities, no denormals.
    weights = np.full(width * width, 1 / width, np.float32).tobytes()
    around = b""
    before_weights = []
    for i in range(LAYERS):
        node = field(1, values[i]) + field(1, f"w_{i}") + field(2, values[i + 1])
        around += field(1, node + field(4, "MatMul"))
        before = field(1, width) + field(1, width) + field(2, 1) + field(8, f"w_{i}")
        before += varint(9 << 3 | 2) + varint(len(weights))  # raw_data
        # An initializer of the graph: field 5.
        before_weights.append(varint(5 << 3 | 2) + varint(len(before) + len(weights)) + before)
    around += field(2, "large") + field(11, float_value_info("x", width))
    around += field(12, float_value_info("y", width))
    graph_size = len(around) + sum(map(len, before_weights)) + LAYERS * len(weights)
    yield field(1, 10) + field(8, field(1, "") + field(2, 18))  # ir_version, opset
    yield varint(7 << 3 | 2) + varint(graph_size) + around
    for before in before_weights:
        yield before
        yield weights


def write_model(path: Path, size_mb: float) -> int:
    """Write a model of about that many MB; returns its columns."""
    width = int((size_mb * 1e6 / LAYERS / struct.calcsize("f")) ** 0.5)
    with path.open("wb") as file:
        file.writelines(pieces_of_model(width))
    return width


class InPyruntime:
    """Loads, calls and unloads with this project."""

    def __init__(self) -> None:
        self._runtime = pyruntime.Runtime()

    def load(self, path: Path) -> Callable[[np.ndarray], object]:
        model = self._runtime.load("model", path)

        def use(row: np.ndarray) -> None:
            model.infer({"x": row})
            for future in [model.submit({"x": row}) for _ in range(8)]:
                future.result()

        return use

    def unload(self) -> None:
        self._runtime.unload("model")


class InOnnxRuntime:
    """The same with ONNX Runtime's own module: the reference."""

    def load(self, path: Path) -> Callable[[np.ndarray], object]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

        def use(row: np.ndarray) -> None:
            session.run(None, {"x": row})
            session.run(None, {"x": row.repeat(8, axis=0)})

        return use

    def unload(self) -> None:
        """Nothing: the session ends with its last reference."""


SIDES = {"pyruntime": InPyruntime, "onnxruntime": InOnnxRuntime}


def measure(side_name: str, loads: int, path: Path, columns: int) -> dict[str, object]:
    side = SIDES[side_name]()

    def load_and_unload(model: Path, row: np.ndarray) -> float:
        use = side.load(model)
        use(row)
        resident = resident_mb()[0]
        side.unload()
        return resident

    load_and_unload(SMALL, np.ones((1, 64), np.float32))
    gc.collect()
    before, before_anonymous = resident_mb()
    print(f"{side_name}: before: {before:.1f} MB resident, {before_anonymous:.1f} of no file")
    row = np.ones((1, columns), np.float32)
    loaded = 0.0
    after = []
    begin = time.perf_counter()
    for i in range(1, loads + 1):
        loaded = max(loaded, load_and_unload(path, row))
        if i % 10 == 0 or i in (1, loads):
            gc.collect()
            resident, anonymous = resident_mb()
            after.append(resident)
            print(
                f"{side_name}: {i:3} loads: {resident:.1f} MB, {anonymous:.1f} of no file, "
                f"ratio {resident / before:.3f}",
                flush=True,
            )
    elapsed = time.perf_counter() - begin
    ctypes.CDLL(None).malloc_trim(0)
    trimmed, _ = resident_mb()
    print(f"{side_name}: loaded: {loaded:.1f} MB at most; after malloc_trim: {trimmed:.1f} MB")
    return {
        "seconds_per_load": elapsed / loads,
        "before_mb": before,
        "loaded_mb": loaded,
        "after_mb": after,
        "largest_after_to_before": max(after) / before,
        "after_to_before": after[-1] / before,
        "after_malloc_trim_mb": trimmed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--size-mb", type=float, default=100, help="default: %(default)s")
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        columns = write_model(path, options.size_mb)
        for side in SIDES:
            # A process each: what one leaves behind is not the other's.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                figures[side] = process.submit(measure, side, options.loads, path, columns).result()
    print(json.dumps({"benchmark": "memory", "loads": options.loads, **figures}))


if __name__ == "__main__":
    main()
