"""The values of the requests that are sent: random, zeros, or from a file."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.bench.tensors import Array, Inputs, make_inputs
from pyruntime.errors import InvalidInput
from pyruntime.tensors import TensorSpec

__all__ = ["ZEROS_WARNING", "read_npz", "request_inputs"]

ZEROS_WARNING = (
    "inputs are zeros, which some kernels compute faster than real data: leave --zeros out, or "
    "give --inputs FILE.npz"
)


def request_inputs(
    specs: Sequence[TensorSpec],
    *,
    rows: int,
    is_batchable: bool,
    dims: Mapping[str, int],
    seed: int,
    zeros: bool = False,
    arrays: Mapping[str, Array] | None = None,
) -> Inputs:
    """Values for each of `specs`. arrays: those that are given; the others are made.

    Raises InvalidInput, also for a dynamic dimension that nothing says the size of.
    """
    given = dict(arrays or {})
    if unknown := sorted(given.keys() - {spec.name for spec in specs}):
        names = ", ".join(repr(spec.name) for spec in specs)
        raise InvalidInput(f"inputs: expected some of {names}, got {unknown[0]!r}")
    made, guesses = make_inputs(
        [spec for spec in specs if spec.name not in given],
        rows=rows,
        is_batchable=is_batchable,
        dims=dims,
        seed=seed,
    )
    if guesses:
        name = guesses[0].split("'")[1]
        raise InvalidInput(
            f"inputs: dimension '{name}' is dynamic, and its size decides what is measured: "
            f"--dim {name}=SIZE sets it, --inputs FILE.npz gives the values"
        )
    if zeros:
        made = {name: _zeros(array) for name, array in made.items()}
    taken = {
        spec.name: _take(spec, given[spec.name], rows, is_batchable)
        for spec in specs
        if spec.name in given
    }
    return {spec.name: {**made, **taken}[spec.name] for spec in specs}


def _zeros(array: Array) -> Array:
    return np.full(array.shape, "", object) if array.dtype == object else np.zeros_like(array)


def _take(spec: TensorSpec, array: Array, rows: int, is_batchable: bool) -> Array:
    """The first rows of what is given, checked against what the model declares."""
    place = f"input '{spec.name}'"
    expected = "object" if spec.dtype == "string" else spec.dtype
    if array.dtype.kind in "SU":
        array = array.astype(object)
    if spec.dtype == "bfloat16" and array.dtype == np.uint16:
        expected = "uint16"
    fits = len(array.shape) == len(spec.shape) and all(
        size < 0 or size == got for size, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or array.dtype != expected:
        raise InvalidInput(f"{place}: expected {spec}, got {array.dtype}{list(array.shape)}")
    if not is_batchable:
        return np.ascontiguousarray(array)
    if len(array) < rows:
        raise InvalidInput(f"{place}: expected at least {rows} rows, got {len(array)}")
    return np.ascontiguousarray(array[:rows])


def read_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read arrays by name. Raises InvalidInput that names the file."""
    where = os.fspath(path)
    try:
        # Opened here, since NumPy leaves it open where it is cut off.
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InvalidInput(f"{where}: expected an .npz file with an array for each input")
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{where}: expected an .npz file, got an error: {error}") from None
