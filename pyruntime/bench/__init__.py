"""Measurements of this machine and this installation, each with its own reference beside it.

`overhead` is the ledger of where the time between a caller and a model goes. `compare` sets runs
side by side; `parity` sets outputs side by side.
"""

from pyruntime.bench.comparing import compare
from pyruntime.bench.differences import Check, Difference, Differences, Side, Unmatched
from pyruntime.bench.frames import to_frame
from pyruntime.bench.ledger import Comparison, Ledger, Skipped, Step
from pyruntime.bench.measuring import overhead
from pyruntime.bench.parity_checking import Compared, Parity, SkippedVariant, parity
from pyruntime.bench.reporting import report

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
    "to_frame",
]
