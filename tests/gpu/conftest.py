"""Tests on a GPU: skipped, with the reason, where there is none.

PYRUNTIME_CUDA_DRIVER may name the fake driver, as everywhere: then what needs no engine runs.
benchmarks/gpu/check.sh runs them all and prints their figures, which figure() gives.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyruntime
from pyruntime.config import find_cuda_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Gpu:
    """The first GPU, by calls of the driver apart from pyruntime's."""

    def __init__(self, driver: str) -> None:
        self._cuda = ctypes.CDLL(driver)
        self.is_fake = hasattr(self._cuda, "fake_cuda_control")
        self._context = ctypes.c_void_p()
        self._check("cuInit", 0)
        device = ctypes.c_int()
        self._check("cuDeviceGet", ctypes.byref(device), 0)
        self._check("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def _check(self, name: str, *arguments: object) -> None:
        result = self._call(name, *arguments)
        assert result == 0, f"{name}: {result}"

    def _call(self, name: str, *arguments: object) -> int:
        if self._context:
            assert self._cuda.cuCtxSetCurrent(self._context) == 0
        return int(getattr(self._cuda, name)(*arguments))

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._check("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size_bytes: int) -> int | None:
        """Take memory; None where there is not so much."""
        address = ctypes.c_uint64()
        result = self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value if result == 0 else None

    def free(self, address: int) -> None:
        self._check("cuMemFree_v2", ctypes.c_uint64(address))


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    cuda = next(item for item in pyruntime.devices() if item.name == "cuda")
    if not cuda.is_present:
        pytest.skip(f"no GPU: {cuda.why_absent}")
    return Gpu(find_cuda_driver() or "libcuda.so.1")


@pytest.fixture(scope="session")
def cuda_provider(gpu: Gpu) -> pyruntime.ProviderOptions:
    """ONNX Runtime's CUDA provider."""
    if gpu.is_fake:
        pytest.skip("the driver is the fake one: ONNX Runtime's CUDA provider needs a real one")
    found = [item for item in pyruntime.devices() if item.name == "CUDAExecutionProvider"]
    if not found or not found[0].is_present:
        reason = found[0].why_absent if found else "ONNX Runtime is absent"
        pytest.skip(f"no CUDA provider: {reason}")
    return pyruntime.ProviderOptions("cuda")


@pytest.fixture
def runtime() -> Iterator[pyruntime.Runtime]:
    with pyruntime.Runtime() as runtime:
        yield runtime


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured, in a few words."""

    def note(text: str) -> None:
        request.node.user_properties.append(("figure", text))
        if path := os.environ.get("PYRUNTIME_GPU_FIGURES"):
            with Path(path).open("a") as file:
                file.write(f"{text}\n")

    return note
