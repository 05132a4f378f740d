"""The inputs that every step is given, and whether all give the same outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyruntime.errors import InvalidInput
from pyruntime.tensors import TensorSpec

__all__ = ["Array", "Inputs", "make_inputs", "repeat_rows", "why_different"]

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]

# How far floats may be apart, relatively and absolutely, by bytes of an element.
_TOLERANCES = {2: (2e-2, 1e-3), 4: (1e-4, 1e-6), 8: (1e-6, 1e-9)}


def make_inputs(
    specs: Sequence[TensorSpec],
    *,
    rows: int,
    is_batchable: bool,
    dims: Mapping[str, int],
    seed: int,
) -> tuple[Inputs, list[str]]:
    """Random arrays for a model that declares `specs`, the same for the same seed.

    rows: along dimension 0 of a batchable model.
    dims: sizes of other dynamic dimensions, by symbol or as "INPUT.AXIS"; 1 where none is given.
    Integers are 0 or 1, which any table of embeddings has; bfloat16 comes as uint16.

    Returns the arrays by name and warnings. Raises InvalidInput.
    """
    if rows != 1 and not is_batchable:
        fixed = ", ".join(f"'{spec.name}' {spec}" for spec in specs)
        raise InvalidInput(
            f"rows: expected 1, since dimension 0 of the model's inputs and outputs is not free "
            f"(inputs: {fixed}), got {rows}"
        )
    unused, guessed, shapes = set(dims), [], {}
    for spec in specs:
        shape = list(spec.shape)
        for axis, size in enumerate(spec.shape):
            if size >= 0:
                continue
            place, symbol = f"{spec.name}.{axis}", spec.symbols[axis]
            if axis == 0 and is_batchable:
                shape[axis] = rows
                continue
            known = next((key for key in (place, symbol) if key in dims), None)
            if known is None:
                guessed.append(symbol or place)
            shape[axis] = 1 if known is None else dims[known]
            unused.discard(known or "")
        shapes[spec.name] = tuple(shape)
    if unused:
        free = ", ".join(dict.fromkeys(_free_dims(specs, is_batchable))) or "none"
        raise InvalidInput(f"dim: expected a dynamic dimension ({free}), got {min(unused)!r}")
    rng = np.random.default_rng(seed)
    arrays = {spec.name: _random(rng, spec.dtype, shapes[spec.name]) for spec in specs}
    warnings = [
        f"dimension '{name}' is dynamic and was taken as 1; --dim {name}=SIZE sets it"
        for name in dict.fromkeys(guessed)
    ]
    return arrays, warnings


def _free_dims(specs: Sequence[TensorSpec], is_batchable: bool) -> list[str]:
    return [
        spec.symbols[axis] or f"{spec.name}.{axis}"
        for spec in specs
        for axis, size in enumerate(spec.shape)
        if size < 0 and not (axis == 0 and is_batchable)
    ]


def _random(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "string":
        texts = [f"text {number}" for number in rng.integers(0, 100, shape).flat]
        return np.array(texts, object).reshape(shape)
    if dtype == "bfloat16":
        bits = rng.standard_normal(shape).astype(np.float32).view(np.uint32)
        return np.asarray(bits >> 16).astype(np.uint16)
    if np.dtype(dtype).kind == "f":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)


def repeat_rows(inputs: Inputs, times: int) -> Inputs:
    """The rows of `inputs`, one after another, so many times."""
    return {name: np.concatenate([array] * times) for name, array in inputs.items()}


def why_different(name: str, dtype: str, expected: Array, got: Array) -> str | None:
    """What sets two outputs called `name` apart; None where nothing does."""
    if expected.shape != got.shape:
        return f"output '{name}': shape {list(expected.shape)} there, {list(got.shape)} here"
    first, second = _comparable(dtype, expected), _comparable(dtype, got)
    if first.dtype.kind == "f":
        relative, absolute = _TOLERANCES[2 if dtype == "bfloat16" else first.dtype.itemsize]
        if np.allclose(second, first, rtol=relative, atol=absolute, equal_nan=True):
            return None
        with np.errstate(invalid="ignore"):
            apart = float(np.nanmax(np.abs(second.astype(float) - first.astype(float))))
        return f"output '{name}': up to {apart:.3g} apart"
    unequal = int(np.count_nonzero(first != second))
    return f"output '{name}': {unequal} of {first.size} elements differ" if unequal else None


def _comparable(dtype: str, array: Array) -> Array:
    if dtype == "string":
        as_bytes = [item.encode() if isinstance(item, str) else item for item in array.flat]
        return np.array(as_bytes, object).reshape(array.shape)
    if dtype == "bfloat16":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array
