"""`pyruntime models stats`: what versions have done, and how long it took them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyruntime.commands.models.connection import add_arguments, connect
from pyruntime.commands.table import table

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_STEPS = ("queue", "compute_input", "compute_infer", "compute_output", "success", "fail")


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "stats",
        help="print counts and mean times of every version",
        description="Prints what each version has done since it was loaded: requests answered and "
        "failed, rows, batches, mean times of a request's steps, and its memory.",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", default="", help="default: all")
    parser.add_argument("--version", metavar="N", default="", help="default: all")
    parser.add_argument("--json", action="store_true", help="print JSON, with all that is known")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print the statistics."""
    with connect(args) as client:
        answer = client.statistics(args.model, args.version, timeout_s=args.timeout)
    if args.json:
        from google.protobuf import json_format

        shown = json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(shown["model_stats"], indent=2))
        return 0
    header = ("MODEL", "VERSION", "ANSWERED", "FAILED", "ROWS", "BATCHES", "QUEUE", "RUN", "TOTAL")
    rows = [_row(stats) for stats in answer.model_stats]
    print(table(rows, header=(*header, "MEMORY"), right=range(1, len(header) + 1)))
    return 0


def _row(stats: Any) -> tuple[str, ...]:
    steps = {name: getattr(stats.inference_stats, name) for name in _STEPS}
    memory = sum(usage.byte_size for usage in stats.memory_usage)
    return (
        stats.name,
        stats.version,
        str(steps["success"].count),
        str(steps["fail"].count),
        str(stats.inference_count),
        str(stats.execution_count),
        *(_mean(steps[name]) for name in ("queue", "compute_infer", "success")),
        f"{memory / 2**20:.1f} MiB" if memory else "-",
    )


def _mean(duration: Any) -> str:
    """Write the mean of some durations."""
    return f"{duration.ns / duration.count / 1e3:.1f} us" if duration.count else "-"
