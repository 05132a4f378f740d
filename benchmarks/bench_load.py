"""Another model's p99 while one loads: quiet, beside gentle loads, beside ungentle ones.

"threaded" is a gentle load of a model with a thread of its own for each core.

python benchmarks/bench_load.py [TURNS]: prints one JSON line.
"""

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyruntime import Batching, InstanceGroup, ModelOptions, Runtime

MODELS = Path(__file__).resolve().parents[1] / "tests" / "models"
LAYERS, WIDTH = 24, 1024
CALLERS = os.cpu_count() or 1  # each keeps a core busy


def write_heavy(path: Path) -> None:
    """Write a model of some 100 MB, whose weights the engine transposes and packs."""
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    nodes, initializers = [], []
    for layer in range(LAYERS):
        initializers.append(numpy_helper.from_array(weights, f"w{layer}"))
        source, target = (f"h{layer}" if layer else "x"), f"h{layer + 1}"
        nodes.append(helper.make_node("Gemm", [source, f"w{layer}"], [target], transB=1))
    shape = ["n", WIDTH]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"h{LAYERS}", TensorProto.FLOAT, shape)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def p99_us(model, during) -> tuple[float, float]:
    """p99 of the callers' requests while `during` runs, and how long that takes."""
    over = threading.Event()
    times: list[list[float]] = [[] for _ in range(CALLERS)]
    x = np.zeros((256, 64), np.float32)  # half a millisecond and more, without the GIL

    def ask(mine: list[float]) -> None:
        while not over.is_set():
            start = time.perf_counter()
            model.infer({"x": x})
            mine.append(time.perf_counter() - start)

    callers = [threading.Thread(target=ask, args=(mine,)) for mine in times]
    for caller in callers:
        caller.start()
    start = time.perf_counter()
    during()
    seconds = time.perf_counter() - start
    over.set()
    for caller in callers:
        caller.join()
    return float(np.percentile(np.concatenate(times), 99) * 1e6), seconds


def main(turns: int) -> None:
    """Measure the three in turns."""
    names = ("quiet", "gentle", "threaded", "ungentle")
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, Runtime() as runtime:
        path = Path(folder, "heavy.onnx")
        write_heavy(path)
        options = ModelOptions(
            instances=(InstanceGroup(count=CALLERS),), batching=Batching(max_rows=1)
        )
        model = runtime.load("small", MODELS / "mlp_64_256_256_10.onnx", options=options)
        model.warm_up()

        def load(gently: bool, threads: int = 1) -> None:
            options = ModelOptions(intra_op_threads=threads)
            for _ in range(3):
                runtime.load(
                    "heavy",
                    path,
                    options=options,
                    gently=gently,
                    warm_up=lambda one: one.warm_up(4),
                ).unload()

        for _ in range(turns):
            figures["quiet"].append(p99_us(model, lambda: time.sleep(1)))
            figures["gentle"].append(p99_us(model, lambda: load(True)))
            figures["threaded"].append(p99_us(model, lambda: load(True, CALLERS)))
            figures["ungentle"].append(p99_us(model, lambda: load(False)))
    p99 = {name: float(np.median([one[0] for one in found])) for name, found in figures.items()}
    seconds = {name: float(np.median([one[1] for one in found])) for name, found in figures.items()}
    print(
        json.dumps(
            {
                "benchmark": "load",
                "cores": os.cpu_count(),
                "turns": turns,
                "p99_us": p99,
                "to_quiet": {name: value / p99["quiet"] for name, value in p99.items()},
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
