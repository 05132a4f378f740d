"""What a point of the grid is measured with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyruntime.bench.events import OnEvent
from pyruntime.bench.find_rate import Slo
from pyruntime.bench.load.target import Target
from pyruntime.bench.results import Configuration, Measurement

if TYPE_CHECKING:
    from pyruntime.bench.gpu import GpuWatch
    from pyruntime.bench.load.mlperf import LoadGen

__all__ = ["How", "Keep", "Point"]

_REPETITIONS = 20  # about, where the time is used up
_REPETITION_S = (0.1, 2.0)
_SEEDS_OF_A_ROUND = 1_000_000

# Told of what there is so far, to keep it.
Keep = Callable[[Measurement], None]


@dataclass(frozen=True, slots=True)
class How:
    """How points are measured.

    seconds: for each, with its warm-up. figure: whose interval is to be narrow, and within: how
    narrow, as a share of the median to either side.
    repetition_s: of each repetition; None: a share of the time.
    seed: of values and arrivals. round: of several, each with the same values and other arrivals.
    """

    seconds: float = 10.0
    figure: str = "p50_us"
    within: float = 0.03
    repetition_s: float | None = None
    seed: int = 0
    round: int = 1

    @property
    def arrivals_seed(self) -> int:
        """To which the number of the repetition is added."""
        return self.seed + _SEEDS_OF_A_ROUND * (self.round - 1)

    @property
    def slice_s(self) -> float:
        """Of a repetition."""
        least, most = _REPETITION_S
        return self.repetition_s or min(most, max(least, self.seconds / (1.5 * _REPETITIONS)))


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Point:
    """One point, with all that measures it.

    on_event: is told what happens. keep: is called after each repetition with what there is.
    slo: that the highest rate is searched for, where the configuration asks for that.
    """

    target: Target
    configuration: Configuration
    how: How
    on_event: OnEvent = _ignore
    keep: Keep = _ignore
    slo: Slo | None = None
    loadgen: "LoadGen | None" = None
    gpu: "GpuWatch | None" = None
