"""How long after its last byte a new version is served, in mode "poll".

With file events, and by looking every second where there are none; beside a load call.

python benchmarks/bench_poll.py [TURNS]: prints one JSON line; fails above the promised 2 s.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pyruntime.repository import ModelRepository, RepositoryOptions
from pyruntime.repository.watcher import POLL_EVERY_S, why_no_events

MODEL = Path(__file__).resolve().parents[1] / "tests" / "models" / "mlp_64_256_256_10.onnx"
PROMISED_S = 2.0
STEP_S = 0.002


def add(root: Path, version: int) -> None:
    """Copy a version into the repository, as a user would."""
    folder = root / "m" / str(version)
    folder.mkdir(parents=True)
    shutil.copy(MODEL, folder / "model.onnx")


def served_after_s(repository: ModelRepository, version: int) -> float:
    """Add a version; seconds until a request is answered by it."""
    model = repository.runtime.model("m")
    x = np.zeros((1, 64), np.float32)
    add(repository.root, version)
    start = time.perf_counter()
    while model.infer_routed({model.inputs[0].name: x})[1].version != version:
        if time.perf_counter() - start > 60:
            raise SystemExit(f"version {version} is not served after 60 s")
        time.sleep(STEP_S)
    return time.perf_counter() - start


def measure(poll_every_s: float | None, turns: int) -> list[float]:
    """Add versions at any moment between two looks."""
    options = RepositoryOptions(mode="poll", poll_every_s=poll_every_s)
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        add(root, 1)
        with ModelRepository(root, options=options) as repository:
            times = []
            for version in range(2, turns + 2):
                time.sleep(0.2 + chance.random() * POLL_EVERY_S)
                times.append(served_after_s(repository, version))
    return times


def measure_load(turns: int) -> list[float]:
    """The reference: load calls, which need not notice anything."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        add(root, 1)
        options = RepositoryOptions(mode="explicit", load=("m",))
        with ModelRepository(root, options=options) as repository:
            times = []
            for version in range(2, turns + 2):
                add(root, version)
                start = time.perf_counter()
                repository.load("m")
                times.append(time.perf_counter() - start)
    return times


def main(turns: int) -> None:
    """Measure both ways of noticing."""
    sides = {"load_call": measure_load(turns)}
    if (reason := why_no_events(Path(tempfile.gettempdir()).resolve())) is None:
        sides["file_events"] = measure(None, turns)
    else:
        print(f"no file events: {reason}", file=sys.stderr)
    sides["every_second"] = measure(POLL_EVERY_S, turns)
    figures = {
        name: {"median_s": float(np.median(times)), "max_s": max(times)}
        for name, times in sides.items()
    }
    print(json.dumps({"benchmark": "poll", "cores": os.cpu_count(), "turns": turns, **figures}))
    if slow := [name for name, one in figures.items() if one["max_s"] > PROMISED_S]:
        raise SystemExit(f"later than {PROMISED_S} s: {', '.join(slow)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
