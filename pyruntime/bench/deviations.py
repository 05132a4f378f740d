"""How far two outputs are apart, element by element."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyruntime.bench.tensors import Array

__all__ = ["QUANTILES", "Deviation", "Tolerance", "Worst", "deviation", "tolerance_of"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}

# Relative, and as a share of the output's root mean square, by bytes of an element.
_DEFAULTS = {2: (2e-2, 2e-2), 4: (1e-4, 1e-5), 8: (1e-8, 1e-9)}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An element may be `absolute` + `relative` * |expected| away; integers and texts not at all.

    absolute: None: so many times the root mean square of the output as `of_rms` says.
    """

    relative: float
    absolute: float | None
    of_rms: float = 0.0


@dataclass(frozen=True, slots=True)
class Worst:
    """The element that is furthest beyond its tolerance, or nearest to it.

    index: the first number is that of the sample.
    """

    index: tuple[int, ...]
    expected: Any
    got: Any


@dataclass(frozen=True, slots=True)
class Deviation:
    """One output, of all samples together.

    unequal: elements that are not the same; beyond: those that are too far away.
    absolute, relative, ulp: quantiles of what elements are apart ("p50", "p90", "p99", "max");
    ulp: representable numbers between the two. Empty where the elements are no numbers, relative
    and ulp where they are integers.
    worst: None where all are the same.
    problem: why nothing was compared, such as another shape.
    """

    output: str
    dtype: str
    elements: int
    unequal: int
    beyond: int
    absolute: Mapping[str, float]
    relative: Mapping[str, float]
    ulp: Mapping[str, float]
    worst: Worst | None
    problem: str | None = None

    @property
    def is_close(self) -> bool:
        """Whether no element is too far away."""
        return self.problem is None and self.beyond == 0


def tolerance_of(
    dtype: str, relative: float | None = None, absolute: float | None = None
) -> Tolerance:
    """The usual one for elements of `dtype`, as far as no other is given."""
    size = {"float64": 8, "float16": 2, "bfloat16": 2}.get(dtype, 4)
    usual, of_rms = _DEFAULTS[size]
    return Tolerance(usual if relative is None else relative, absolute, of_rms)


def deviation(
    output: str, dtype: str, expected: Array, got: Array, tolerance: Tolerance
) -> Deviation:
    """Compare two arrays [samples, ...]; bfloat16 comes as uint16."""
    if expected.shape != got.shape:
        text = f"shape {list(expected.shape[1:])} in the reference, {list(got.shape[1:])} here"
        return Deviation(output, dtype, 0, 0, 0, {}, {}, {}, None, text)
    if dtype == "string":
        pairs = zip(expected.flat, got.flat, strict=True)
        unequal = np.array([_bytes(a) != _bytes(b) for a, b in pairs], bool)
        return _without_distance(output, dtype, expected, got, unequal.reshape(expected.shape))
    if dtype == "bool":
        return _without_distance(output, dtype, expected, got, expected != got)
    first, second = _floats(dtype, expected), _floats(dtype, got)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.where(same, 0.0, np.abs(second - first))
        # One that is no number where the other is.
        apart = np.where(np.isnan(apart), np.inf, apart)
        size = np.where(np.isfinite(first), np.abs(first), 0.0)
        relative = np.where(same, 0.0, apart / size)
    is_integer = dtype.startswith(("int", "uint"))
    absolute = tolerance.absolute
    if absolute is None:
        finite = first[np.isfinite(first)]
        rms = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
        absolute = tolerance.of_rms * rms
    allowed = np.zeros_like(size) if is_integer else absolute + tolerance.relative * size
    with np.errstate(invalid="ignore", divide="ignore"):
        # Where nothing is allowed, any distance is infinitely too far.
        excess = np.where(apart > 0, apart / allowed, 0.0)
    ulps = {} if is_integer else _quantiles(_ulps(dtype, expected, got, same))
    return Deviation(
        output=output,
        dtype=dtype,
        elements=int(expected.size),
        unequal=int(np.count_nonzero(~same)),
        beyond=int(np.count_nonzero(apart > allowed)),
        absolute=_quantiles(apart),
        relative={} if is_integer else _quantiles(relative),
        ulp=ulps,
        worst=_worst(first, second, np.where(np.isinf(excess), apart + 1e300, excess)),
    )


def _without_distance(
    output: str, dtype: str, expected: Array, got: Array, unequal: Array
) -> Deviation:
    count = int(np.count_nonzero(unequal))
    worst = _worst(expected, got, unequal.astype(float))
    return Deviation(output, dtype, int(expected.size), count, count, {}, {}, {}, worst)


def _worst(expected: Array, got: Array, excess: Array) -> Worst | None:
    if not excess.size or not excess.max() > 0:
        return None
    index = np.unravel_index(int(np.argmax(excess)), excess.shape)
    return Worst(tuple(int(i) for i in index), _plain(expected[index]), _plain(got[index]))


def _quantiles(values: Array) -> dict[str, float]:
    if not values.size:
        return {}
    # Ranks, not interpolation: infinite values stay what they are.
    found = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, map(float, found), strict=True))


def _floats(dtype: str, array: Array) -> Array:
    if dtype == "bfloat16":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(float)
    # Integers beyond 2**53 keep their differences better in long double.
    return array.astype(np.longdouble if array.dtype.kind in "iu" else float)


def _ulps(dtype: str, expected: Array, got: Array, same: Array) -> Array:
    """Representable numbers between each two; infinite where one is not a number."""
    unsigned = np.dtype(f"uint{8 * expected.itemsize}")
    top = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    places = []
    for array in (expected, got):
        raw = np.ascontiguousarray(array).view(unsigned)
        # As numbers that grow with the value: negative ones count downwards.
        places.append(np.where(raw & top, ~raw, raw | top))
    apart = (np.maximum(*places) - np.minimum(*places)).astype(float)
    first, second = _floats(dtype, expected), _floats(dtype, got)
    apart[np.isnan(first) | np.isnan(second)] = np.inf
    return np.where(same, 0.0, apart)


def _bytes(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.longdouble):
        return int(value)
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value
