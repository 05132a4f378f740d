"""How often `bench compare` is right about real runs: equals, and a model with 5 % more work.

    python benchmarks/compare_coverage.py --pairs 20 --seconds 2

Each run is a process of its own, and the three kinds take turns: a, the same again, and a model
with a twentieth more of the same layers. Compared are single runs, and groups of three. Prints one
JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyruntime.bench import compare
from pyruntime.bench.fingerprint import machine

LAYERS, WIDTH = 40, 256
KINDS = {"a": LAYERS, "again": LAYERS, "slower": LAYERS + LAYERS // 20}
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
    path.parent.mkdir()
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def run(model: Path, output: Path, seconds: float) -> Path:
    command = [sys.executable, "-P", "-m", "pyruntime", "bench", "run", str(model)]
    limits = ["--concurrency", "1", "--seconds", f"{seconds:g}", "--json", str(output)]
    subprocess.run([*command, *limits], check=True, stdout=subprocess.DEVNULL)
    return output


def count(sides: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Comparisons in which anything, and each figure, was said to differ."""
    found = [compare(before, after, figures=FIGURES) for before, after in sides]
    differs = [{r.figure for r in one.rows if r.verdict != "no difference"} for one in found]
    ratios = {f: [r.ratio for one in found for r in one.rows if r.figure == f] for f in FIGURES}
    return {
        "comparisons": len(found),
        "any": sum(map(bool, differs)),
        **{figure: sum(figure in each for each in differs) for figure in FIGURES},
        "ratio_sd": {f: round(float(np.std(np.log(ratios[f]))), 4) for f in FIGURES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, list[Path]] = {kind: [] for kind in KINDS}
        for kind, layers in KINDS.items():
            save_model(folder / kind / "layers.onnx", layers)
        for i in range(args.pairs):
            for kind, files in runs.items():
                output = folder / f"{kind}-{i}.json"
                files.append(run(folder / kind / "layers.onnx", output, args.seconds))
        a, again, slower = runs.values()
        groups = [
            [files[i : i + GROUP] for i in range(0, len(files) - GROUP + 1, GROUP)]
            for files in runs.values()
        ]
        print(
            json.dumps(
                {
                    "benchmark": "compare_coverage",
                    "machine": {k: machine()[k] for k in ("cpu", "cores", "load_1min")},
                    "seconds": args.seconds,
                    "equal, single runs": count(list(zip(a, again, strict=True))),
                    "5 % slower, single runs": count(list(zip(a, slower, strict=True))),
                    "equal, three runs": count(list(zip(groups[0], groups[1], strict=True))),
                    "5 % slower, three runs": count(list(zip(groups[0], groups[2], strict=True))),
                }
            )
        )


if __name__ == "__main__":
    main()
