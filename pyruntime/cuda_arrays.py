"""What other libraries say of their arrays on a GPU, as far as it can be asked in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyruntime.errors import InvalidInput
from pyruntime.tensors import DTYPES

__all__ = ["Interface", "dlpack_capsule", "dlpack_index", "read_interface"]

_CUDA = 2  # kDLCUDA


@dataclass(frozen=True, slots=True)
class Interface:
    """What `__cuda_array_interface__` says. type: index in DTYPES.

    stream: that still works on it, a handle, or 1 and 2 for the default ones; 0 where none does.
    """

    address: int
    shape: tuple[int, ...]
    type: int
    stream: int


def dlpack_index(value: Any) -> int | None:
    """Index of the GPU on which `value` lies, None where DLPack does not say so."""
    if not hasattr(value, "__dlpack_device__") or not hasattr(value, "__dlpack__"):
        return None
    kind, index = value.__dlpack_device__()
    return int(index) if int(kind) == _CUDA else None


def dlpack_capsule(value: Any, stream: int) -> Any:
    """Take what `value` gives; its owner makes `stream` wait for what still writes to it."""
    try:
        return value.__dlpack__(stream=stream, max_version=(1, 1))
    except TypeError:  # older than DLPack 1.0
        return value.__dlpack__(stream=stream)


def read_interface(value: Any, dtype_name: str) -> Interface | None:
    """Read `__cuda_array_interface__`, of versions up to 3; None where there is none.

    dtype_name: what is expected. Raises InvalidInput.
    """
    found: Any = getattr(value, "__cuda_array_interface__", None)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise InvalidInput(f"expected a dict as __cuda_array_interface__, got {found!r}")
    try:
        shape = tuple(int(size) for size in found["shape"])
        typestr = str(found["typestr"])
        address = int(found["data"][0] or 0)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidInput(
            f"expected shape, typestr and data in __cuda_array_interface__, got {found!r}"
        ) from error
    dtype = _dtype_of(typestr, dtype_name)
    if found.get("mask") is not None:
        raise InvalidInput("expected an array without a mask, got one with a mask")
    strides = found.get("strides")
    item_bytes = np.dtype(typestr).itemsize
    if strides is not None and not _is_contiguous(shape, tuple(strides), item_bytes):
        raise InvalidInput(
            f"expected a row-major, contiguous array, got shape {shape} with strides "
            f"{tuple(strides)}; make it contiguous on its device"
        )
    stream = found.get("stream")
    if stream is not None and not (isinstance(stream, int) and stream > 0):
        raise InvalidInput(
            f"expected None, 1, 2 or a stream's address as the interface's stream, got {stream!r}"
        )
    return Interface(address, shape, dtype, stream or 0)


def _dtype_of(typestr: str, dtype_name: str) -> int:
    try:
        dtype = np.dtype(typestr)
    except TypeError as error:
        raise InvalidInput(f"expected {dtype_name}, got the type {typestr!r}") from error
    name = dtype.name
    if dtype_name == "bfloat16" and dtype.kind == "V" and dtype.itemsize == 2:
        name = "bfloat16"
    if name not in DTYPES or name == "string" or not dtype.isnative:
        raise InvalidInput(f"expected {dtype_name}, got an array of {typestr!r}")
    return DTYPES.index(name)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], item_bytes: int) -> bool:
    expected = item_bytes
    for size, stride in zip(reversed(shape), reversed(strides), strict=False):
        if size not in (0, 1) and stride != expected:
            return 0 in shape
        expected *= size
    return len(shape) == len(strides)
