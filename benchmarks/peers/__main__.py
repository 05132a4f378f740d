"""Measures each server that is installed on the same models with the same client.

python -m benchmarks.peers [--peers mlserver,...] [--models FILE,...] [--concurrency 1,8,32]
    [--seconds 5] [-o build/peers/results]

Writes a file of results for each, which `pyruntime bench compare` reads, and prints the table. All
listen on 127.0.0.1 and are stopped when they have been measured. benchmarks/peers/install puts them
into environments of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.peer import PEERS, ROOT, Peer, Start
from benchmarks.peers.process import free_ports, running
from benchmarks.peers.rest import OverRest
from pyruntime.bench import fingerprint, run
from pyruntime.bench.files import write_results
from pyruntime.bench.grid import Placement
from pyruntime.bench.how import How, Point
from pyruntime.bench.model_facts import model_facts
from pyruntime.bench.point import measure_point
from pyruntime.bench.request_inputs import request_inputs
from pyruntime.bench.results import Configuration, Measurement, Results, Skipped
from pyruntime.bench.results_text import COLUMNS, row_of
from pyruntime.bench.subjects import Subject, load_here
from pyruntime.client import Client
from pyruntime.commands.table import table
from pyruntime.config import ModelOptions
from pyruntime.errors import PyRuntimeError

if TYPE_CHECKING:
    import numpy as np

MODELS = tuple(ROOT / "tests" / "models" / f"{name}.onnx" for name in ("mlp_64_256_256_10",))


def measure(peer: Peer, models: tuple[Path, ...], loads: tuple[int, ...], how: How) -> Results:
    """All models, one after the other, each in a server of its own."""
    measurements: list[Measurement] = []
    skipped: list[Skipped] = []
    models_facts = {}
    server = None
    for model in models:
        name = model.stem
        inputs = inputs_of(model)
        shapes = {key: list(array.shape) for key, array in inputs.items()}
        models_facts[name] = model_facts(model, shapes)
        try:
            found = measure_model(peer, model, inputs, loads, how)
        except (RuntimeError, PyRuntimeError) as error:
            configuration = Configuration(name, peer.name, "closed", concurrency=loads[0])
            skipped.append(Skipped(configuration, str(error)))
            continue
        measurements += found.measurements
        skipped += found.skipped
        server = found.fingerprint.get("server") or {"name": peer.name}
    return Results(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=("python", "-m", "benchmarks.peers", *sys.argv[1:]),
        fingerprint={
            "machine": fingerprint.machine(),
            "versions": versions_of(peer),
            "models": models_facts,
            "server": server,
            "request": {"shapes": {}, "seed": how.seed, "source": "random"},
            "options": {"seconds": how.seconds, "figure": how.figure, "within": how.within},
        },
        measurements=tuple(measurements),
        skipped=tuple(skipped),
    )


def measure_model(
    peer: Peer, model: Path, inputs: dict[str, np.ndarray], loads: tuple[int, ...], how: How
) -> Results:
    with tempfile.TemporaryDirectory(prefix="pyruntime-peers-") as folder:
        start = Start(Path(folder), peer.python, model, model.stem, free_ports())
        if peer.protocol == "grpc":
            with running(peer, start, lambda: grpc_answers(peer, start)):
                return run(
                    model,
                    target=f"grpc://127.0.0.1:{start.ports[0]}",
                    concurrency=loads,
                    inputs=inputs,
                    seconds=how.seconds,
                    figure=how.figure,
                    within=how.within,
                    typed_contents=peer.has_typed_contents,
                    service=peer.service,
                )
        with running(peer, start, lambda: rest_answers(peer, start, inputs)) as pid:
            target = OverRest(start.ports[0], peer.path, inputs, pid)
            measurements = tuple(
                measure_point(
                    Point(
                        target,
                        Configuration(
                            model.stem,
                            f"http://127.0.0.1:{start.ports[0]}",
                            "closed",
                            concurrency=load,
                        ),
                        how,
                    )
                )
                for load in loads
            )
            return Results("", (), {"server": {"name": peer.name}}, measurements)


def inputs_of(model: Path) -> dict[str, np.ndarray]:
    """The same for every peer."""
    with load_here(Subject(model.stem, model, ModelOptions()), Placement()) as loaded:
        return request_inputs(
            loaded.specs, rows=1, is_batchable=loaded.is_batchable, dims={}, seed=0
        )


def grpc_answers(peer: Peer, start: Start) -> bool:
    try:
        with Client(f"127.0.0.1:{start.ports[0]}", service=peer.service) as client:
            return client.is_ready(start.name, timeout_s=1.0)
    except PyRuntimeError:
        return False


def rest_answers(peer: Peer, start: Start, inputs: dict[str, np.ndarray]) -> bool:
    return OverRest(start.ports[0], peer.path, inputs, os.getpid()).explain() == ""


def versions_of(peer: Peer) -> dict[str, str | None]:
    """Of the libraries in the peer's environment."""
    code = (
        "import importlib.metadata, json, platform, sys;"
        "found = {name: importlib.metadata.version(name) for name in sys.argv[1:]};"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    packages = peer.distributions or ("pyruntime", "onnxruntime", "numpy", "grpcio")
    done = subprocess.run(
        [peer.python, "-c", code, *packages], capture_output=True, text=True, check=True
    )
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--peers", default=",".join(PEERS), help="default: all that are installed")
    parser.add_argument("--models", help="default: " + ", ".join(path.stem for path in MODELS))
    parser.add_argument("--concurrency", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each point")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "peers" / "results")
    args = parser.parse_args()
    names = args.peers.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"--peers: expected some of {', '.join(PEERS)}, got {unknown[0]}")
    models = tuple(map(Path, args.models.split(","))) if args.models else MODELS
    if missing := [path for path in models if not path.is_file()]:
        parser.error(f"--models: {missing[0]}: no such file")
    loads = tuple(map(int, args.concurrency.split(",")))
    args.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        peer = PEERS[name]
        if peer.missing:
            print(f"{name}: {peer.missing}", file=sys.stderr)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        results = measure(peer, models, loads, How(seconds=args.seconds))
        write_results(results, args.output / f"{name}.json")
        for one in results.skipped:
            print(f"{name}: not measured: {one.reason}", file=sys.stderr)
        label = f"{name} {results.fingerprint['versions'][name] or ''}".strip()
        for done in results.measurements:
            at_once = f"x{done.configuration.concurrency}"
            rows.append((label, peer.protocol, done.configuration.model, *row_of(at_once, done)))
    header = ("server", "protocol", "model", "", *(title for title, _ in COLUMNS), "±p50")
    print(table(rows, header=header, right=range(4, len(header))))
    print(f"\n* has warnings, in its file. pyruntime bench compare {args.output}/*.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
