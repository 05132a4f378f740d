"""Tensors as a model declares them, and arrays made of what callers pass for them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyruntime.errors import InvalidInput, Unimplemented

__all__ = ["TensorSpec", "as_array"]

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)),
    *("float16", "bfloat16", "float32", "float64", "string"),
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    dtype: NumPy's name, "bfloat16" or "string".
    shape: -1 for a dimension that may be anything.
    symbols: the names of such dimensions, "" where there is none.
    """

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    symbols: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        name: object = self.name
        _expect(isinstance(name, str) and name != "", "name", "a text that is not empty", name)
        _expect(self.dtype in DTYPES, "dtype", f"one of {', '.join(DTYPES)}", self.dtype)
        shape, symbols = _as_tuple(self.shape), _as_tuple(self.symbols)
        fits = shape is not None and all(isinstance(n, int) and n >= -1 for n in shape)
        _expect(fits, "shape", "sizes, -1 for any", self.shape)
        symbols = symbols or ("",) * len(self.shape)
        fits = len(symbols) == len(self.shape) and all(isinstance(s, str) for s in symbols)
        _expect(fits, "symbols", f"{len(self.shape)} names", self.symbols)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "symbols", symbols)

    def __str__(self) -> str:
        """Read as in errors: "float32[*, 128]"."""
        return f"{self.dtype}[{', '.join('*' if n < 0 else str(n) for n in self.shape)}]"


def _as_tuple(value: object) -> tuple[Any, ...] | None:
    return tuple(value) if isinstance(value, list | tuple) else None


def _expect(fits: bool, field_name: str, expected: str, got: object) -> None:
    if not fits:
        raise InvalidInput(f"TensorSpec.{field_name}: expected {expected}, got {got!r}")


def as_array(value: Any, name: str, dtype_name: str) -> tuple[np.ndarray[Any, Any], bool]:
    """Make a C-contiguous, aligned array of native byte order out of `value`.

    Shares the memory of arrays, DLPack objects and buffers where it can. Only Python's own
    lists and scalars are converted to `dtype_name`.

    Returns the array and whether bytes of an array had to be copied.
    Raises InvalidInput, or Unimplemented for memory of a GPU.
    """
    try:
        if isinstance(value, np.ndarray):
            array = value
        elif isinstance(value, list | tuple | int | float | str) or (
            dtype_name == "string" and isinstance(value, bytes)
        ):
            return _from_python(value, name, dtype_name), False
        elif hasattr(value, "__dlpack__"):
            array = _from_dlpack(value, name)
        else:
            array = _from_buffer(value)
    except (ValueError, TypeError, RuntimeError, BufferError, OverflowError) as error:
        if isinstance(error, InvalidInput | Unimplemented):
            raise
        raise InvalidInput(
            f"input '{name}': expected {dtype_name}, got {type(value).__name__}: {error}"
        ) from error
    if array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative:
        return array, False
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True), True


def bfloat16() -> np.dtype[Any] | None:
    """Give the dtype of ml_dtypes, or None where that is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


# DLPack's numbers of devices whose memory the host reads.
_DLPACK_HOST = {1, 3, 11}
_DLPACK_DEVICES = {
    2: "CUDA",
    4: "OpenCL",
    7: "Vulkan",
    8: "Metal",
    10: "ROCm",
    13: "CUDA managed",
    14: "oneAPI",
}


def _from_dlpack(value: Any, name: str) -> np.ndarray[Any, Any]:
    if isinstance(value, np.generic):
        return np.asarray(value)
    kind, index = value.__dlpack_device__()
    if int(kind) not in _DLPACK_HOST:
        device = _DLPACK_DEVICES.get(int(kind), f"DLPack device {int(kind)}")
        raise Unimplemented(
            f"input '{name}': expected memory of the host, got memory of {device}:{index}; "
            "this build has no backend for it"
        )
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError):
        # NumPy's importer knows no bfloat16.
        if "bfloat16" not in str(getattr(value, "dtype", "")):
            raise
    if type(value).__module__.partition(".")[0] != "torch":
        return np.asarray(value)
    import torch

    bits: np.ndarray[Any, Any] = np.from_dlpack(value.detach().view(torch.uint16))
    dtype = bfloat16()
    return bits if dtype is None else bits.view(dtype)


def _from_buffer(value: Any) -> np.ndarray[Any, Any]:
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return np.asarray(value)
    return np.asarray(memoryview(value))


def _from_python(value: Any, name: str, dtype_name: str) -> np.ndarray[Any, Any]:
    """Convert lists and scalars, if nothing is lost by it."""
    if dtype_name == "bfloat16":
        dtype = bfloat16()
        if dtype is None:
            raise InvalidInput(
                f"input '{name}': expected an array of bfloat16 as uint16, since ml_dtypes is not "
                f"installed; got {type(value).__name__}"
            )
    else:
        dtype = np.dtype(object if dtype_name == "string" else dtype_name)
    objects = np.array(value, dtype=object)
    accepted = _ACCEPTED.get(dtype.kind, (int, float, np.integer, np.floating))
    for index, item in enumerate(objects.flat):
        if not isinstance(item, accepted) or (isinstance(item, bool) and dtype.kind != "b"):
            raise InvalidInput(
                f"input '{name}': expected {dtype_name}, got {type(item).__name__} "
                f"as element {index} of {type(value).__name__}"
            )
    # An empty string would otherwise have lost its place: objects stay objects.
    return objects if dtype_name == "string" else _rounded(objects, dtype, name)


def _rounded(
    objects: np.ndarray[Any, Any], dtype: np.dtype[Any], name: str
) -> np.ndarray[Any, Any]:
    """`objects` as `dtype`; a number that becomes infinite on the way is refused."""
    with np.errstate(over="ignore"):
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            for index, item in enumerate(objects.flat):
                if not limits.min <= item <= limits.max:
                    raise InvalidInput(
                        f"input '{name}': expected {dtype}, got {item} as element {index}"
                    )
            return objects.astype(dtype)
        array = objects.astype(np.float64).astype(dtype) if dtype.kind != "b" else objects
    if dtype.kind == "b":
        return array.astype(dtype)
    overflowed = np.isinf(array) & ~np.isinf(objects.astype(np.float64))
    if overflowed.any():
        index = int(np.flatnonzero(overflowed)[0])
        raise InvalidInput(
            f"input '{name}': expected {dtype}, got {objects.flat[index]} as element {index}"
        )
    return array


# By kind of dtype; the others take any real number.
_ACCEPTED: dict[str, tuple[type, ...]] = {
    "b": (bool, np.bool_),
    "i": (int, np.integer),
    "u": (int, np.integer),
    "O": (str, bytes),
}
