"""How often `bench compare` is right about real runs: equals, and 5 % slower.

    python benchmarks/compare_coverage.py delays --pairs 20 --seconds 2
    python benchmarks/compare_coverage.py model --pairs 20 --seconds 2

`delays`: a server whose delays are drawn from a known distribution (10 ms, lognormal), so that
little depends on what else the machine does. `model`: one with a twentieth more of the same layers,
each run a process of its own, where the machine counts. The three kinds take turns. Compared are
single runs, and groups of three. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyruntime import _probe
from pyruntime.bench import compare
from pyruntime.bench.files import read_results
from pyruntime.bench.fingerprint import machine
from pyruntime.bench.how import How, Point
from pyruntime.bench.load.over_grpc import OverGrpc
from pyruntime.bench.point import measure_point
from pyruntime.bench.results import Configuration, Results

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS, WIDTH = 40, 256
KINDS = {"a": 1.0, "again": 1.0, "slower": 1.05}  # times the work
FIGURES = ("p50_us", "p99_us", "requests_per_s")
GROUP = 3


def save_model(path: Path, layers: int) -> None:
    """Equal layers, one after the other, which the engine cannot join."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32) / 16
    nodes = []
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"x{i}", "w"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"x{i + 1}"]))
    shape = ["rows", WIDTH]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def run_model(folder: Path, factor: float, seconds: float) -> Results:
    model, output = folder / f"layers-{factor:g}" / "layers.onnx", folder / "results.json"
    if not model.exists():
        model.parent.mkdir()
        save_model(model, round(LAYERS * factor))
    command = [sys.executable, "-P", "-m", "pyruntime", "bench", "run", str(model)]
    limits = ["--concurrency", "1", "--seconds", f"{seconds:g}", "--json", str(output)]
    subprocess.run([*command, *limits], check=True, stdout=subprocess.DEVNULL)
    return read_results(output)


_seeds = itertools.count()


def run_delays(_: Path, factor: float, seconds: float) -> Results:
    rng = np.random.default_rng(next(_seeds))
    delays_ns = (factor * 1e7 * rng.lognormal(0, 0.1, 10_000)).astype(np.int64)
    configuration = Configuration("m", "grpc://delays", "closed", concurrency=32)
    how = How(seconds=seconds, within=1e-9)  # all of the time, as where it is noisy
    with (
        closing(_probe.GrpcResponder(b"", delays_ns, 0, 0, 0, 0)) as responder,
        closing(OverGrpc(responder.address, "m", b"")) as target,
    ):
        point = measure_point(Point(target, configuration, how))
    return Results("", (), {"machine": machine()}, (point,))


def count(sides: list[tuple[Any, Any]], run_to_run: float | None) -> dict[str, Any]:
    """Comparisons in which anything, and each figure, was said to differ."""
    found = [
        compare(before, after, figures=FIGURES, run_to_run=run_to_run) for before, after in sides
    ]
    differs = [{r.figure for r in one.rows if r.verdict != "no difference"} for one in found]
    ratios = {f: [r.ratio for one in found for r in one.rows if r.figure == f] for f in FIGURES}
    return {
        "comparisons": len(found),
        "any": sum(map(bool, differs)),
        **{figure: sum(figure in each for each in differs) for figure in FIGURES},
        "ratio_sd": {f: round(float(np.std(np.log(ratios[f]))), 4) for f in FIGURES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("delays", "model"))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument(
        "--run-to-run",
        metavar="PERCENT",
        type=float,
        help="as of `bench compare`: 0.75 where others use the machine and yet cannot disturb",
    )
    args = parser.parse_args()
    allowance = None if args.run_to_run is None else args.run_to_run / 100
    measure: Callable[[Path, float, float], Results]
    measure = run_delays if args.what == "delays" else run_model
    runs: dict[str, list[Results]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(args.pairs):
            for kind, factor in KINDS.items():
                runs[kind].append(measure(Path(name), factor, args.seconds))
    a, again, slower = runs.values()
    groups = [
        [some[i : i + GROUP] for i in range(0, len(some) - GROUP + 1, GROUP)]
        for some in runs.values()
    ]
    pairs = {
        "equal, single runs": zip(a, again, strict=True),
        "5 % slower, single runs": zip(a, slower, strict=True),
        "equal, three runs": zip(groups[0], groups[1], strict=True),
        "5 % slower, three runs": zip(groups[0], groups[2], strict=True),
    }
    counts = {name: count(list(some), allowance) for name, some in pairs.items()}
    here = {key: machine()[key] for key in ("cpu", "cores", "load_1min")}
    head = {"benchmark": "compare_coverage", "what": args.what, "seconds": args.seconds}
    print(json.dumps({**head, "machine": here, **counts}))


if __name__ == "__main__":
    main()
