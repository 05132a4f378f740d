"""Measurements of this machine and this installation, each with its own reference beside it.

`run` measures a grid of configurations, in this process or of any server. `overhead` is the ledger
of where the time between a caller and a model goes. `compare` sets runs side by side; `parity` sets
outputs side by side; `report` writes a page of plots; `tune` searches options.
"""

from typing import TYPE_CHECKING

from pyruntime.bench.comparing import compare
from pyruntime.bench.differences import Check, Difference, Differences, Side, Unmatched
from pyruntime.bench.frames import to_frame
from pyruntime.bench.ledger import Comparison, Ledger, Skipped, Step
from pyruntime.bench.measuring import overhead
from pyruntime.bench.parity_checking import Compared, Parity, SkippedVariant, parity
from pyruntime.bench.reporting import report
from pyruntime.bench.tuned import SkippedChoice, Trial, Tuning

if TYPE_CHECKING:
    from pyruntime.bench.running import run
    from pyruntime.bench.tuning import tune

__all__ = [
    "Check",
    "Compared",
    "Comparison",
    "Difference",
    "Differences",
    "Ledger",
    "Parity",
    "Side",
    "Skipped",
    "SkippedChoice",
    "SkippedVariant",
    "Step",
    "Trial",
    "Tuning",
    "Unmatched",
    "compare",
    "overhead",
    "parity",
    "report",
    "run",
    "to_frame",
    "tune",
]


def __getattr__(name: str) -> object:
    """`run` and `tune`: what they measure with is not for everyone who compares."""
    if name == "run":
        from pyruntime.bench.running import run

        return run
    if name == "tune":
        from pyruntime.bench.tuning import tune

        return tune
    raise AttributeError(f"module 'pyruntime.bench' has no attribute {name!r}")
