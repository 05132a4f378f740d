"""Measurements of this machine and this installation, each with its own reference beside it.

`overhead` is the ledger of where the time between a caller and a model goes.
"""

from pyruntime.bench.ledger import Comparison, Ledger, Skipped, Step
from pyruntime.bench.measuring import overhead

__all__ = ["Comparison", "Ledger", "Skipped", "Step", "overhead"]
