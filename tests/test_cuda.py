"""GPUs seen from Python, over the fake CUDA driver: each test has a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parent / "fake_cuda").glob("*.cc"))

ECHO = """
import numpy as np
import pyruntime

def load(runtime, device="cuda:0", **options):
    options = pyruntime.ModelOptions(
        engine="echo",
        echo_inputs=(pyruntime.TensorSpec("x", "float32", (-1, 4)),),
        instances=(pyruntime.InstanceGroup(device, 2),),
        **options,
    )
    return runtime.load("m", options=options)
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake driver, compiled."""
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    flags = ["-std=c++20", "-O0", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, *flags, *map(str, SOURCES), "-o", str(library)], check=True)
    return library


def run(code: str, driver: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python of its own that finds this driver."""
    return run_command([sys.executable, "-c", code], driver, environment)


def run_command(
    command: list[str], driver: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command that finds this driver."""
    return subprocess.run(
        command,
        env=os.environ | {"PYRUNTIME_CUDA_DRIVER": str(driver)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_devices_names_the_gpus(driver: Path) -> None:
    done = run_command([sys.executable, "-m", "pyruntime", "devices"], driver, {})
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if " cuda " in line)
    assert "present" in line
    assert "2 devices: cuda:0 Fake GPU 0, 1.0 GiB, CUDA 13.0; cuda:1 Fake GPU 1" in line


def test_devices_says_why_there_is_no_gpu(driver: Path, tmp_path: Path) -> None:
    show = "import pyruntime; print([d for d in pyruntime.devices() if d.name == 'cuda'][0])"
    for library, reason in (
        (tmp_path / "absent", "PYRUNTIME_CUDA_DRIVER: expected the path of a library"),
        (SOURCES[0], "dlopen"),
    ):
        done = run(show, library)
        assert done.returncode == 0, done.stderr
        assert "count=0" in done.stdout
        assert reason in done.stdout


def test_a_model_serves_on_a_gpu(driver: Path) -> None:
    done = run(
        ECHO
        + """
with pyruntime.Runtime() as runtime:
    model = load(runtime)
    x = np.arange(4, dtype="f4")[None]
    for i in range(20):
        assert (model.infer({"x": x + i})["output_0"] == x + i).all()
    futures = [model.submit({"x": x + i}) for i in range(100)]
    assert all((f.result(10)["output_0"] == x + i).all() for i, f in enumerate(futures))
    print(model.stats().completed)
""",
        driver,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["120"]
    assert done.stderr == ""


def test_warm_up_measures_how_batches_overlap_and_stats_tell(driver: Path) -> None:
    done = run(
        ECHO
        + """
with pyruntime.Runtime() as runtime:
    model = load(runtime)
    model.warm_up(rows=8, runs=1)
    (measured,) = model.stats().overlaps
    assert measured.device == "cuda:0" and measured.shapes == ((4,),), measured
    assert measured.payload_bytes == 8 * 4 * 4 * 2
    assert min(measured.none_us, measured.two_us, measured.three_us) > 0
    assert measured.chosen in ("none", "two", "three")
    assert model.stats().batches == 0
    forced = load(runtime, overlap="three")
    forced.warm_up(rows=8, runs=1)
    forced.infer({"x": np.zeros((8, 4), "f4")})
    assert forced.stats().overlaps == ()
    print(forced.stats().overlapped, forced.stats().batches)
""",
        driver,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]


def test_batches_are_filled_up_to_captured_sizes(driver: Path) -> None:
    done = run(
        ECHO
        + """
with pyruntime.Runtime() as runtime:
    model = load(runtime, cuda_graphs=[1, 4])
    model.warm_up(rows=4, runs=1)
    for rows in (1, 3, 4, 5):
        x = np.full((rows, 4), rows, "f4")
        assert (model.infer({"x": x})["output_0"] == x).all()
    stats = model.stats()
    print(stats.replayed, stats.batches)
    try:
        load(runtime, "cpu", cuda_graphs=[1])
    except pyruntime.InvalidInput as error:
        print(error)
""",
        driver,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.split() == ["3", "4"]
    assert "cuda_graphs: expected instances on CUDA devices, got 'cpu'" in second


def test_a_gpu_that_is_not_there_is_refused_with_the_reason(driver: Path) -> None:
    code = """
with pyruntime.Runtime() as runtime:
    try:
        load(runtime, "cuda:7")
    except pyruntime.Unavailable as error:
        print(error)
"""
    done = run(ECHO + code, driver)
    assert done.returncode == 0, done.stderr
    assert "model 'm' version 1: device 'cuda:7': expected an index below 2" in done.stdout
    done = run(ECHO + code, SOURCES[0])
    assert done.returncode == 0, done.stderr
    assert "device 'cuda:7': CUDA driver" in done.stdout
    assert "dlopen" in done.stdout


def test_a_forked_child_is_told_that_the_driver_does_not_survive(driver: Path) -> None:
    done = run(
        ECHO
        + """
import os
runtime = pyruntime.Runtime()
load(runtime)
if os.fork() == 0:
    try:
        load(pyruntime.Runtime())
    except pyruntime.Unavailable as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
runtime.close()
""",
        driver,
    )
    assert done.returncode == 0, done.stderr
    assert "was initialised before this process was forked" in done.stdout
