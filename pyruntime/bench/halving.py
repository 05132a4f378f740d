"""Finds the best of many arms by measuring all of them briefly and the better half again.

Successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016). All that are left
are measured in each round, in an order that is shuffled, so that what disturbs the machine
disturbs all alike.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pyruntime.bench.histogram import Histogram
from pyruntime.errors import PyRuntimeError

__all__ = ["Arm", "Measure", "Record", "Seen", "halve", "take_turns"]

_SLICE_S = (0.02, 1.0)
_MOST_ERRORS = 0.001


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing to try. choice: its number; those of one choice are measured after each other."""

    choice: int
    in_flight: int


class Seen(Protocol):
    """What is seen of an arm in a slice of time."""

    @property
    def seconds(self) -> float:
        """That it took."""

    @property
    def requests(self) -> int:
        """Answered with a result."""

    @property
    def latency(self) -> Histogram:
        """Of these."""

    @property
    def errors(self) -> Mapping[str, int]:
        """By name."""


Measure = Callable[[Arm, float], Seen]


@dataclass(slots=True)
class Record:
    """An arm with all that was seen of it. problem: why it could not be measured."""

    arm: Arm
    slices: list[Seen] = field(default_factory=list)
    problem: str = ""

    @property
    def seconds(self) -> float:
        """For which it was measured."""
        return sum(each.seconds for each in self.slices)

    @property
    def per_s(self) -> float:
        """Requests, on the average."""
        return sum(each.requests for each in self.slices) / self.seconds if self.seconds else 0.0

    def latency_us(self, quantile: float | None) -> float:
        """Of all requests together; None: the mean."""
        merged = Histogram.merged(each.latency for each in self.slices)
        return merged.mean_us if quantile is None else merged.quantile(quantile)

    def keeps(self, quantile: float | None, limit_us: float) -> bool:
        """Whether the latency is within the limit and next to nothing failed."""
        errors = sum(sum(each.errors.values()) for each in self.slices)
        requests = sum(each.requests for each in self.slices)
        is_sound = requests > 0 and errors <= _MOST_ERRORS * (requests + errors)
        return is_sound and self.latency_us(quantile) <= limit_us


Rank = Callable[[Record], tuple[bool, float]]


def halve(
    arms: Sequence[Arm],
    measure: Measure,
    rank: Rank,
    *,
    seconds: float,
    finalists: int,
    kept: int,
    seed: int = 0,
    on_round: Callable[[int, int], None] = lambda number, left: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Record]:
    """Measure all, and the better half again, until so many choices are left; the best first.

    rank: of a record, the greater the better. kept: a choice whose best arm stays in the race.
    on_round: is told the round and how many arms are in it.
    Those that dropped out or failed come after the others, in the order in which they did.
    """
    order = random.Random(seed)
    left = [Record(arm) for arm in arms]
    gone: list[Record] = []
    deadline = clock() + seconds
    number = 0
    while True:
        number += 1
        on_round(number, len(left))
        rounds_left = max(1, math.ceil(math.log2(max(2, len(left)) / finalists)) + 1)
        share_s = max(0.0, deadline - clock()) / rounds_left
        _measure_round(left, measure, share_s, order)
        failed = [record for record in left if record.problem]
        left = sorted((r for r in left if not r.problem), key=rank, reverse=True)
        gone = failed + gone
        if len({record.arm.choice for record in left}) <= finalists or clock() >= deadline:
            break
        wanted = max(finalists, math.ceil(len(left) / 2))
        survivors = left[:wanted]
        if not any(record.arm.choice == kept for record in survivors):
            survivors += [record for record in left if record.arm.choice == kept][:1]
        gone = [record for record in left if record not in survivors] + gone
        left = survivors
    return left + gone


def _measure_round(
    records: Sequence[Record], measure: Measure, seconds: float, order: random.Random
) -> None:
    low, high = _SLICE_S
    slice_s = min(high, max(low, seconds / max(1, len(records))))
    by_choice: dict[int, list[Record]] = {}
    for record in records:
        by_choice.setdefault(record.arm.choice, []).append(record)
    for choice in order.sample(sorted(by_choice), len(by_choice)):
        for record in order.sample(by_choice[choice], len(by_choice[choice])):
            _measure_one(record, measure, slice_s)


def _measure_one(record: Record, measure: Measure, seconds: float) -> None:
    try:
        record.slices.append(measure(record.arm, seconds))
    except PyRuntimeError as error:
        record.problem = str(error).partition("\n")[0]


def take_turns(
    arms: Sequence[Arm],
    measure: Measure,
    *,
    seconds: float,
    fewest: int,
    seed: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> list[Record]:
    """Measure each arm once in each turn until the time is up, and at least `fewest` times."""
    order = random.Random(seed)
    records = [Record(arm) for arm in arms]
    low, high = 2 * _SLICE_S[0], _SLICE_S[1]
    slice_s = min(high, max(low, seconds / max(1, len(arms)) / (2 * fewest)))
    deadline = clock() + seconds
    turns = 0
    while turns < fewest or clock() + slice_s * len(arms) <= deadline:
        turns += 1
        for record in order.sample(records, len(records)):
            if not record.problem:
                _measure_one(record, measure, slice_s)
        if all(record.problem for record in records):
            break
    return records
