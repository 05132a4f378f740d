"""`pyruntime bench`: measurements, each with its own reference beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyruntime.commands.bench import compare, overhead, parity, report, run, tune

if TYPE_CHECKING:
    import argparse

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# In the order of the help.
MEASUREMENTS = (run, overhead, compare, report, parity, tune)


def add_parser(commands: Commands) -> None:
    """Add this command's parser, with one for each measurement."""
    parser = commands.add_parser(
        "bench",
        help="measure where the time between a caller and a model goes",
        description="Measurements of this machine and this installation.",
    )
    benches = parser.add_subparsers(title="measurements", metavar="MEASUREMENT", required=True)
    for measurement in MEASUREMENTS:
        measurement.add_parser(benches)
