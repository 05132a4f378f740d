"""What a comparison of measurements says; docs/benchmarking.md tells how to read it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas

__all__ = ["Check", "Difference", "Differences", "Side", "Unmatched", "Verdict"]

Verdict = Literal["no difference", "better", "worse", "higher", "lower", "unknown"]


@dataclass(frozen=True, slots=True)
class Side:
    """Runs of one thing.

    files: one of each run.
    """

    label: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one configuration, on the baseline and on another side.

    configuration: what both have in common.
    before, after: on the baseline and on `side`: the mean of the repetitions without the outer
    fifths.
    ratio: after / before; None where a figure can be 0, such as a share of errors.
    ci: of the ratio, with the confidence that the number of rows asks for; None without a ratio
    or where nothing is known of the spread.
    p: how probable a difference of this size is between equals; None where that is unknown.
    verdict: "no difference" where chance explains it; "unknown" where there is no p.
    """

    configuration: Mapping[str, Any]
    figure: str
    side: str
    before: float
    after: float
    ratio: float | None
    ci: tuple[float, float] | None
    p: float | None
    verdict: Verdict

    @property
    def seen_from(self) -> float | None:
        """The change, as a share, from which on it would have been claimed; None: unknown."""
        if self.ratio is None or self.ci is None:
            return None
        return max(self.ci[1] / self.ratio, self.ratio / self.ci[0]) - 1


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A configuration that not all sides have."""

    configuration: Mapping[str, Any]
    sides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one --fail-if at one configuration.

    value: the ratio to the baseline if `is_ratio`, or the figure itself; None where no request was
    answered, which is a breach where the baseline's were.
    status: "breached": beyond the limit, and surely so; "not shown": beyond it, but that can be
    chance; "kept".
    """

    condition: str
    configuration: Mapping[str, Any]
    figure: str
    side: str
    value: float | None
    is_ratio: bool
    p: float
    status: Literal["kept", "not shown", "breached"]


@dataclass(frozen=True, slots=True)
class Differences:
    """The result of `compare`.

    sides: the first is the baseline. compared: by field of the configuration, what each side has
    there, where that is what sets them apart.
    rows: by configuration, then by figure, then by side.
    warnings: what the reader has to know about these figures.
    run_to_run: the allowance for sides of a single run, as a share; None: the usual one.
    """

    sides: tuple[Side, ...]
    compared: Mapping[str, Mapping[str, Any]]
    rows: tuple[Difference, ...]
    unmatched: tuple[Unmatched, ...]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    run_to_run: float | None

    @property
    def is_breached(self) -> bool:
        """Whether a condition is surely not kept."""
        return any(check.status == "breached" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As plain values for a JSON encoder."""
        return {"schema": "pyruntime-differences/1", **dataclasses.asdict(self)}

    def to_frame(self) -> "pandas.DataFrame":
        """A pandas frame of `rows`, a column for each field of the configuration."""
        from pyruntime.bench.frames import differences_frame

        return differences_frame(self)
