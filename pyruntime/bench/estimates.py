"""What a figure is, how surely that is known, and how surely two of them differ.

Figures are compared by the logarithm, so that a ratio is a difference. A run's value is the mean of
its repetitions without the outer fifths (Yuen 1974): a disturbed repetition counts little, and the
mean's error is still known.

Repetitions within a run say little about the next run, in which the process lies elsewhere in
memory and its neighbours do other work (Kalibera and Jones 2013). Where a side has several runs,
what changes between them is estimated from them. A single run is taken to be no surer than one of
its repetitions, and no surer than an allowance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyruntime.bench import student_t

__all__ = [
    "DISTURBED",
    "RUN_TO_RUN",
    "Estimate",
    "Run",
    "combine",
    "false_discovery_level",
    "interval",
    "ratio_of",
    "tail",
]

RUN_TO_RUN = 0.0075
"""Standard deviation of a figure from one run to the next, as a share, where nothing is known."""

DISTURBED = 0.15
"""The same where others used the machine: whoever shares a core is up to 1.4 times slower."""

_TRIMMED = 0.2  # of each end
_FEWEST_TO_TRIM = 8
_NORMAL_95 = 1.959964
_MOST_LOG = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """A figure in one run, on the scale on which it is compared.

    variance, df: of `mean`; NaN and 0 where there is one repetition only.
    scatter: variance of a single repetition.
    """

    mean: float
    variance: float
    df: float
    scatter: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Run":
        """From the repetitions, at least one."""
        ordered = np.sort(np.asarray(values, np.float64))
        count = len(ordered)
        if count == 1:
            return cls(float(ordered[0]), math.nan, 0, math.nan)
        cut = int(_TRIMMED * count) if count >= _FEWEST_TO_TRIM else 0
        kept = count - 2 * cut
        winsorized = np.clip(ordered, ordered[cut], ordered[count - 1 - cut])
        variance = (count - 1) * float(winsorized.var(ddof=1)) / (kept * (kept - 1))
        mean = float(ordered[cut : count - cut].mean())
        return cls(mean, variance, kept - 1, count * variance)

    @classmethod
    def of_interval(cls, value: float, low: float, high: float) -> "Run":
        """From what someone else found to lie between `low` and `high` with 95 % confidence."""
        variance = ((high - low) / 2 / _NORMAL_95) ** 2
        return cls(value, variance, math.inf, variance)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of one side; variance: of `mean`, NaN where nothing is known of it."""

    mean: float
    variance: float
    df: float

    def minus(self, other: "Estimate") -> "Estimate":
        """By how much it is more; degrees of freedom by Welch and Satterthwaite."""
        return _sum(self.mean - other.mean, [(self.variance, self.df), (other.variance, other.df)])


def combine(runs: Sequence[Run], allowance: float) -> Estimate:
    """One side's figure.

    allowance: standard deviation from run to run, assumed where there is only one.
    """
    mean = float(np.mean([run.mean for run in runs]))
    if len(runs) == 1:
        run = runs[0]
        if run.scatter > allowance**2:
            return Estimate(mean, run.variance + run.scatter, run.df)
        return _sum(mean, [(run.variance, run.df), (allowance**2, math.inf)])
    between = float(np.var([run.mean for run in runs], ddof=1))
    # By chance runs may lie closer together than their repetitions allow.
    known = [run.variance for run in runs if not math.isnan(run.variance)]
    within = float(np.mean(known)) if known else 0.0
    return Estimate(mean, max(between, within) / len(runs), len(runs) - 1)


def _sum(mean: float, parts: Sequence[tuple[float, float]]) -> Estimate:
    variance = sum(part for part, _ in parts)
    if math.isnan(variance):
        return Estimate(mean, math.nan, 0)
    uncertainty = sum(part**2 / df for part, df in parts if part > 0)
    return Estimate(mean, variance, variance**2 / uncertainty if uncertainty > 0 else math.inf)


def tail(estimate: Estimate, limit: float = 0.0) -> float:
    """How probable it would be to find so much or more if `limit` were the truth."""
    above = estimate.mean - limit
    if math.isnan(estimate.variance):
        return math.nan
    if estimate.variance == 0:
        return 0.5 if above == 0 else float(above < 0)
    return student_t.upper_tail(above / math.sqrt(estimate.variance), estimate.df)


def interval(estimate: Estimate, level: float) -> tuple[float, float]:
    """Where it lies; `level` is the share of such intervals that are wrong."""
    half = math.sqrt(estimate.variance) if estimate.variance > 0 else 0.0
    if half > 0:
        half *= student_t.quantile(level / 2, estimate.df)
    return estimate.mean - half, estimate.mean + half


def ratio_of(difference: float) -> float:
    """Of a difference of logarithms; kept finite, since two repetitions bound hardly anything."""
    return math.exp(min(max(difference, -_MOST_LOG), _MOST_LOG))


def false_discovery_level(tails: Sequence[float], level: float) -> float:
    """What a probability must not exceed so that a share `level` of what is claimed is wrong.

    By Benjamini and Hochberg (1995). If in truth nothing differs, anything at all is claimed with
    the probability `level`. Intervals at the level returned agree with what is claimed (Benjamini
    and Yekutieli 2005).
    """
    ordered = sorted(tails)
    claimed = [i for i, p in enumerate(ordered, 1) if p <= i * level / len(ordered)]
    return max(claimed, default=1) * level / max(1, len(ordered))
