"""What a run tells while it goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyruntime.bench.results import Configuration, Measurement, Skipped

__all__ = [
    "Event",
    "Finished",
    "Left",
    "OnEvent",
    "Planned",
    "Repeated",
    "RoundBegun",
    "Searched",
    "Started",
]


@dataclass(frozen=True, slots=True)
class Planned:
    """points: that will be measured or skipped, in all rounds. warnings: of the environment."""

    points: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoundBegun:
    """A process begins to measure all of it, the first before `Planned`. number: from 1 on."""

    number: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Started:
    """A point begins, with its warm-up. limit_s: about how long it takes at most."""

    configuration: Configuration
    limit_s: float


@dataclass(frozen=True, slots=True)
class Searched:
    """A rate was tried. figure: of the SLO, microseconds."""

    configuration: Configuration
    rate_per_s: float
    figure_us: float
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Repeated:
    """A repetition was measured. width: of half the interval asked for, as a share."""

    configuration: Configuration
    repetitions: int
    figures: Mapping[str, float]
    width: float
    share_of_time: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A point was measured."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Left:
    """A point was skipped."""

    skipped: Skipped


Event = Planned | RoundBegun | Started | Searched | Repeated | Finished | Left
OnEvent = Callable[[Event], None]
