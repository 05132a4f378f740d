"""The benchmarks that are programs in Python start, and measure what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *options: str) -> dict[str, object]:
    """The line of JSON that a benchmark ends with."""
    command = [sys.executable, "-P", str(BENCHMARKS / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_bench_memory_runs_a_model_that_it_writes_itself() -> None:
    pytest.importorskip("onnxruntime")
    figures = run("bench_memory", "--loads", "2", "--size-mb", "4")
    for side in ("pyruntime", "onnxruntime"):
        assert figures[side]["before_mb"] > 0
        assert len(figures[side]["after_mb"]) == 2


def test_bench_idle_watches_the_threads_of_three_instances() -> None:
    pytest.importorskip("onnxruntime")
    figures = run("bench_idle", "--seconds", "0.2")
    assert "pyrt-instance" in figures["by_thread_name_ns"]
    assert figures["process_ns"] >= 0


def test_bench_import_holds_the_package_against_numpy() -> None:
    figures = run("bench_import", "--turns", "1")
    assert figures["least_ms"]["pyruntime"] > 0
    assert figures["least_ms"].keys() == {"nothing", "numpy", "pyruntime"}
