"""The tests of tests/gpu, as far as they go on the fake driver; and the script around them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from test_cuda import driver

__all__ = ["driver"]

ROOT = Path(__file__).parent.parent


def test_they_run_on_the_fake_driver_and_skip_what_needs_an_engine(driver: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/gpu"],
        cwd=ROOT,
        env=os.environ | {"PYRUNTIME_CUDA_DRIVER": str(driver)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"3 passed, \d+ skipped", done.stdout), done.stdout
    assert "the driver is the fake one: ONNX Runtime's CUDA provider needs" in done.stdout


def test_the_script_ends_cleanly_without_a_gpu(tmp_path: Path) -> None:
    environment = os.environ | {"PYRUNTIME_CUDA_DRIVER": str(tmp_path / "absent")}
    done = subprocess.run(
        ["bash", "benchmarks/gpu/check.sh"],
        cwd=ROOT,
        env=environment | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if re.match(r"(PASS|FAIL|SKIPPED) ", line)]
    assert len(rows) >= 9
    assert all(row.startswith("SKIPPED ") for row in rows)
    assert all("no GPU" in row for row in rows)
