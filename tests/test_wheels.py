"""Several wheels of ONNX Runtime in one environment are seen, and said with what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models_for_tests import path_of

from pyruntime.cuda_libraries import wheel_conflict

ADVICE = (
    "onnxruntime and onnxruntime-gpu are installed together and overwrite each other's files: "
    "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install one of 'pyruntime[cuda12]', "
    "'pyruntime[cuda13]' (with a GPU) and 'pyruntime[cpu]'"
)


@pytest.fixture
def both(tmp_path: Path) -> dict[str, str]:
    """An environment in which both wheels say that they are installed."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.99.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.99.0\n"
        )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    environment.pop("PYRUNTIME_ONNXRUNTIME", None)
    return environment


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_wheel_is_no_conflict() -> None:
    assert wheel_conflict("/somewhere/onnxruntime/capi/libonnxruntime.so.1.99.0") == ""


def test_devices_warns_and_says_what_to_do(both) -> None:
    pytest.importorskip("onnxruntime")
    text = run(both, "-m", "pyruntime", "devices")
    engine = next(line for line in text.splitlines() if " onnx " in line)
    assert f"; warning: {ADVICE}" in engine
    listed = json.loads(run(both, "-m", "pyruntime", "devices", "--json"))
    by_name = {item["name"]: item for item in listed}
    assert by_name["onnx"]["warning"] == ADVICE
    assert by_name["onnx"]["why_absent"] == ""
    cuda = by_name["CUDAExecutionProvider"]
    if cuda["why_absent"].startswith("not in this ONNX Runtime"):
        assert cuda["why_absent"] == f"not in this ONNX Runtime: {ADVICE}"


def test_a_library_that_is_no_wheel_s_is_not_warned_of(both, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from pyruntime.config import find_onnxruntime

    library = Path(find_onnxruntime()).resolve()
    copied = tmp_path / "carried" / library.name
    copied.parent.mkdir()
    copied.symlink_to(library)
    environment = both | {"PYRUNTIME_ONNXRUNTIME": str(copied)}
    listed = json.loads(run(environment, "-m", "pyruntime", "devices", "--json"))
    assert all(item["warning"] == "" for item in listed)


def test_a_load_that_fails_on_a_gpu_says_so_too(both) -> None:
    pytest.importorskip("onnxruntime")
    code = f"""
import pyruntime
model = {str(path_of("identity_f32"))!r}
with pyruntime.Runtime() as runtime:
    for options in (
        pyruntime.ModelOptions(providers=(pyruntime.ProviderOptions("cuda"),)),
        pyruntime.ModelOptions(instances=(pyruntime.InstanceGroup("cuda:0", 1),)),
    ):
        try:
            runtime.load("m", model, options=options)
        except pyruntime.PyRuntimeError as error:
            print(type(error).__name__, error)
    try:
        runtime.load("m", model, options=pyruntime.ModelOptions(engine="none"))
    except pyruntime.PyRuntimeError as error:
        print(error)
"""
    lines = run(both, "-c", code).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("Unavailable ")
    assert lines[0].endswith(f"; {ADVICE}")
    assert lines[1].endswith(f"; {ADVICE}")
    assert "overwrite" not in lines[2]
