"""What a search for better options found; docs/benchmarking.md tells how it looks."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

__all__ = ["SkippedChoice", "Trial", "Tuning"]


@dataclass(frozen=True, slots=True)
class Trial:
    """Options with a load.

    changes: by key of model.toml, beside the options that were there; empty: none.
    in_flight: requests at once. requests_per_s, rows_per_s: answered.
    latency_us: the figure that the promise is about, of all its requests together.
    keeps: the promise. seconds: that it was measured; rounds: in how many.
    """

    changes: Mapping[str, Any]
    in_flight: int
    requests_per_s: float
    rows_per_s: float
    latency_us: float
    keeps: bool
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class SkippedChoice:
    """Options that could not be tried, and why."""

    changes: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Tuning:
    """The result of `tune`.

    slo: as it was given. default: the options that were there, at the load that suits them best.
    best: what keeps the promise with the most rows each second in the last turns; None where
    nothing keeps it. It may be the default.
    ratio, ci: of rows each second, best to default, by turn; None where one of them is not there
    or they are the same.
    is_better: best is beyond what chance explains, or keeps a promise that the default surely
    breaks.
    trials: all, the best first. file: the model.toml; is_written: whether it was changed.
    """

    model: str
    slo: str
    default: Trial | None
    best: Trial | None
    ratio: float | None
    ci: tuple[float, float] | None
    is_better: bool
    trials: tuple[Trial, ...]
    skipped: tuple[SkippedChoice, ...]
    warnings: tuple[str, ...]
    seconds: float
    file: str
    is_written: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values for a JSON encoder."""
        return {"schema": "pyruntime-tuning/1", **dataclasses.asdict(self)}

    def to_frame(self) -> "pandas.DataFrame":
        """A pandas frame with a row for each trial."""
        from pyruntime.bench.frames import tuning_frame

        return tuning_frame(self)
