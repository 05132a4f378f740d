"""When a measurement has settled, and when it has gone on for long enough."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pyruntime.bench.figures import interval

__all__ = ["FEWEST", "Repeated", "WarmUp", "half_width", "repeat_until_steady", "warm_up"]

FEWEST = 6
"""Repetitions below which an interval says too little."""

# The last slices are compared with as many before them.
_COMPARED = 2
_ALIKE = 0.05

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """seconds: that it took. is_settled: false where the figure still changed when time was up.

    values: of the slices.
    """

    seconds: float
    is_settled: bool
    values: tuple[float, ...]


def warm_up(
    measure: Callable[[], float | None], *, limit_s: float, clock: Clock = time.monotonic
) -> WarmUp:
    """Call `measure` until what it returns no longer changes, or the time is up.

    measure: measures for a slice of time and returns a figure of it; None: it had none.
    """
    begin = clock()
    values: list[float] = []
    while True:
        value = measure()
        if value is not None:
            values.append(value)
        if _is_settled(values):
            return WarmUp(clock() - begin, True, tuple(values))
        if clock() - begin >= limit_s:
            return WarmUp(clock() - begin, False, tuple(values))


def _is_settled(values: Sequence[float]) -> bool:
    if len(values) < 2 * _COMPARED:
        return False
    last = float(np.mean(values[-_COMPARED:]))
    before = float(np.mean(values[-2 * _COMPARED : -_COMPARED]))
    return abs(last - before) <= _ALIKE * before


@dataclass(frozen=True, slots=True)
class Repeated(Generic[T]):
    """items: what was measured. is_steady: the interval is as narrow as was asked for.

    width: of half the interval, as a share of the median; infinite where nothing is known.
    """

    items: tuple[T, ...]
    is_steady: bool
    width: float


def repeat_until_steady(
    measure: Callable[[], T | None],
    value_of: Callable[[T], float | None],
    *,
    within: float,
    limit_s: float,
    fewest: int = FEWEST,
    clock: Clock = time.monotonic,
) -> Repeated[T]:
    """Measure again until the median of the values is known to `within` of it, or time is up.

    measure: None ends it, since there is no more to measure.
    limit_s: no repetition begins after it, beyond the first.
    """
    begin = clock()
    items: list[T] = []
    width = float("inf")
    while True:
        item = measure()
        if item is None:
            return Repeated(tuple(items), False, width)
        items.append(item)
        width = half_width([value for each in items if (value := value_of(each)) is not None])
        if len(items) >= fewest and width <= within:
            return Repeated(tuple(items), True, width)
        if clock() - begin >= limit_s:
            return Repeated(tuple(items), False, width)


def half_width(values: Sequence[float]) -> float:
    """Of the interval of their median, as a share of it; infinite of fewer than two values."""
    if len(values) < 2:
        return float("inf")
    low, high = interval(np.array(values))
    if low == high:  # also where nothing failed, of which there is no share
        return 0.0
    median = float(np.median(values))
    return (high - low) / 2 / median if median > 0 else float("inf")
