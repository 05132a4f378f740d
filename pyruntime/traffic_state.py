"""What an experiment or a bandit has counted, as it outlives the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from pyruntime.telemetry import RouteStats

__all__ = ["ArmCounts", "TrafficState"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Of one arm; see telemetry.ArmStats."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    rewards: int = 0
    reward_sum: float = 0.0


@dataclass(frozen=True, slots=True)
class TrafficState:
    """Of one experiment or bandit, by arm."""

    experiment: str
    arms: Mapping[str, ArmCounts] = field(default_factory=dict)

    @classmethod
    def of(cls, stats: RouteStats) -> TrafficState:
        """Take what is to be kept."""
        names = [item.name for item in fields(ArmCounts)]
        arms = {arm.name: ArmCounts(*(getattr(arm, name) for name in names)) for arm in stats.arms}
        return cls(stats.experiment, arms)

    def to_mapping(self) -> dict[str, Any]:
        """Give what from_mapping() makes the same of; JSON can hold it."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_mapping(cls, mapping: object) -> TrafficState:
        """Read what to_mapping() gave. Raises InvalidInput."""
        if not isinstance(mapping, Mapping) or mapping.get("format") != _FORMAT:
            raise InvalidInput(f"expected a table with format {_FORMAT}")
        name, arms = mapping.get("experiment"), mapping.get("arms")
        if not isinstance(name, str) or not isinstance(arms, Mapping):
            raise InvalidInput("expected an experiment's name and its arms")
        return cls(name, {arm: _counts(arm, counts) for arm, counts in arms.items()})


def _counts(arm: str, values: object) -> ArmCounts:
    known = {item.name for item in fields(ArmCounts)}
    if not isinstance(values, Mapping) or set(values) != known:
        raise InvalidInput(f"arms: {arm}: expected {', '.join(sorted(known))}")
    for name, value in values.items():
        kind = (int, float) if name == "reward_sum" else int
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise InvalidInput(f"arms: {arm}: {name}: expected a count, got {value!r}")
    counts = ArmCounts(**values)
    if counts.reward_sum > counts.rewards:
        raise InvalidInput(f"arms: {arm}: reward_sum: expected at most one for each reward")
    return counts
