"""Libraries of CUDA: what is found, in which order, and what is missing, with empty libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pyruntime
from pyruntime.cuda_libraries import find_libraries, preload
from pyruntime.cuda_libraries.elf import read_dynamic
from pyruntime.cuda_libraries.packages import package_of


def build(path: Path, *needed: Path) -> Path:
    """Make a library that needs others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-shared", "-nostdlib", "-Wl,--no-as-needed", "-x", "c++", "/dev/null"]
    command += ["-x", "none", f"-Wl,-soname,{path.name}", "-o", str(path)]
    subprocess.run([*command, *map(str, needed)], check=True)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A provider and the wheels' folders; names of versions that no machine has."""
    root = tmp_path_factory.mktemp("libraries")
    cudart = build(root / "nvidia/cuda_runtime/lib/libcudart.so.99")
    lt = build(root / "nvidia/cublas/lib/libcublasLt.so.99")
    cublas = build(root / "nvidia/cublas/lib/libcublas.so.99", lt)
    build(root / "capi/libonnxruntime_providers_cuda.so", cublas, cudart)
    return root


def folders(tree: Path) -> list[Path]:
    return [tree / "nvidia/cublas/lib", tree / "nvidia/cuda_runtime/lib"]


def test_a_library_says_what_it_needs(tree) -> None:
    read = read_dynamic(tree / "capi/libonnxruntime_providers_cuda.so")
    assert read.needed == ("libcublas.so.99", "libcudart.so.99")
    assert read.soname == "libonnxruntime_providers_cuda.so"


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no library at all" * 10])
def test_what_is_no_library_is_refused_by_name(tmp_path, content) -> None:
    (tmp_path / "x.so").write_bytes(content)
    with pytest.raises(pyruntime.Unavailable, match=r"x\.so: expected a 64-bit ELF library"):
        read_dynamic(tmp_path / "x.so")


def test_libraries_are_found_those_that_others_need_first(tree) -> None:
    found = find_libraries(tree / "capi/libonnxruntime_providers_cuda.so", folders(tree))
    names = [Path(path).name for path in found.found]
    assert names == ["libcublasLt.so.99", "libcublas.so.99", "libcudart.so.99"]
    assert found.cuda == 99
    assert not found.missing
    assert "libnvrtc.so.99" in found.lacking


def test_what_is_missing_is_named_with_its_package(tree) -> None:
    provider = tree / "capi/libonnxruntime_providers_cuda.so"
    found = find_libraries(provider, folders(tree)[:1])
    assert found.missing == ("libcudart.so.99",)
    with pytest.raises(
        pyruntime.Unavailable,
        match=r"libonnxruntime_providers_cuda\.so cannot be loaded: libcudart\.so\.99: not found; "
        r"pip install nvidia-cuda-runtime",
    ):
        preload(found)


def test_after_preloading_the_provider_loads(tree) -> None:
    # In another process: what is loaded stays.
    code = f"""
import ctypes
from pathlib import Path
from pyruntime.cuda_libraries import find_libraries, preload
provider = Path({str(tree)!r}, "capi/libonnxruntime_providers_cuda.so")
try:
    ctypes.CDLL(str(provider))
except OSError:
    print("before: no")
preload(find_libraries(provider, [Path(p) for p in {[str(p) for p in folders(tree)]!r}]))
ctypes.CDLL(str(provider))
print("after: yes")
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == "before: no\nafter: yes\n"


@pytest.mark.parametrize(
    ("name", "cuda", "package"),
    [
        ("libcublasLt.so.12", 12, "nvidia-cublas-cu12"),
        ("libcublas.so.13", 13, "nvidia-cublas"),
        ("libcudnn.so.9", 12, "nvidia-cudnn-cu12"),
        ("libcudnn_graph.so.9", 13, "nvidia-cudnn-cu13"),
        ("libnvinfer.so.10", 13, "'tensorrt-cu13-libs==10.*'"),
        ("libc.so.6", 12, ""),
        ("libcuda.so.1", 12, ""),
    ],
)
def test_each_library_has_a_package(name, cuda, package) -> None:
    assert package_of(name, cuda) == package
