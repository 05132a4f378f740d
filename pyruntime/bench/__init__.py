"""Measurements of this machine and this installation, each with its own reference beside it.

`run` measures a grid of configurations, in this process or of any server. `overhead` is the ledger
of where the time between a caller and a model goes. `compare` sets runs side by side; `parity` sets
outputs side by side.
"""

from typing import TYPE_CHECKING

from pyruntime.bench.comparing import compare
from pyruntime.bench.differences import Check, Difference, Differences, Side, Unmatched
from pyruntime.bench.frames import to_frame
from pyruntime.bench.ledger import Comparison, Ledger, Skipped, Step
from pyruntime.bench.measuring import overhead
from pyruntime.bench.parity_checking import Compared, Parity, SkippedVariant, parity
from pyruntime.bench.reporting import report

if TYPE_CHECKING:
    from pyruntime.bench.running import run

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
    "SkippedVariant",
    "Step",
    "Unmatched",
    "compare",
    "overhead",
    "parity",
    "report",
    "run",
    "to_frame",
]


def __getattr__(name: str) -> object:
    """`run` when it is asked for: what it measures with is not for everyone who compares."""
    if name == "run":
        from pyruntime.bench.running import run

        return run
    raise AttributeError(f"module 'pyruntime.bench' has no attribute {name!r}")
