"""`pyruntime bench compare`: runs side by side, and whether what differs is more than chance."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

BREACHED = 3
_EPILOG = f"""examples:
  pyruntime bench compare old.json new.json
  pyruntime bench compare main1.json,main2.json,main3.json patch1.json,patch2.json,patch3.json
  pyruntime bench compare old=o1.json old=o2.json old=o3.json new=n1.json new=n2.json new=n3.json
  pyruntime bench compare grid.json --by device
  pyruntime bench compare cpu=a.json gpu=b.json --fail-if 'p99 > 1.1x' --fail-if 'errors > 0.01'

exit status: 0, also where figures differ; {BREACHED} where a --fail-if is surely breached; 1 for a
file or condition that does not fit; 2 for wrong usage. docs/benchmarking.md says more.
"""


def add_parser(benches: Commands) -> None:
    """Add this measurement's parser."""
    parser = benches.add_parser(
        "compare",
        help="runs side by side, and whether what differs is more than chance",
        description="Sets the figures of runs beside those of the first, with ratios and their\n"
        "intervals, and says 'no difference' where these say so. Reads what `bench run --json`,\n"
        "`bench overhead --json` and pytest-benchmark write.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sides",
        metavar="[LABEL=]A.json[,A2.json...]",
        nargs="+",
        help="a side: one run, or several of the same thing, which also one LABEL makes one "
        "side; the first is the baseline",
    )
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="of one side, compare the values of a field: device, provider, threads, rows ...",
    )
    parser.add_argument(
        "--figures",
        metavar="NAME,...",
        help="such as p50,p90,rows_per_s, or all. Default: p50, p99, requests/s, CPU time, errors",
    )
    parser.add_argument(
        "--fail-if",
        metavar="CONDITION",
        action="append",
        default=[],
        help="'p99 > 1.1x', 'requests_per_s < -5%%', 'p99 > 12ms where concurrency=8'; may be "
        "given again",
    )
    parser.add_argument(
        "--run-to-run",
        metavar="PERCENT",
        type=float,
        help="how much a figure is taken to vary (standard deviation) between runs of the same "
        "thing, where a side has one run only. Default: 0.75, or 15 for a run "
        "during which others used the machine",
    )
    parser.add_argument("--json", metavar="FILE", help="write the comparison there; -: print it")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Compare, and print."""
    from pyruntime.bench import compare
    from pyruntime.errors import InvalidInput

    if args.json not in (None, "-") and not Path(args.json).parent.is_dir():
        raise InvalidInput(f"--json {args.json}: expected a file in a folder that exists")
    labels, sides = _sides(args.sides)
    if len(sides) < 2 and args.by is None:
        raise InvalidInput(
            f"compare: expected at least two sides, or --by FIELD, got {args.sides[0]!r} alone"
        )
    found = compare(
        *sides,
        labels=labels,
        figures=args.figures.split(",") if args.figures else None,
        fail_if=args.fail_if,
        run_to_run=None if args.run_to_run is None else args.run_to_run / 100,
        by=args.by,
    )
    text = json.dumps(found.to_json(), indent=2)
    if args.json == "-":
        print(text)
    else:
        from pyruntime.bench.differences_text import differences_text

        print(differences_text(found))
        if args.json:
            Path(args.json).write_text(text + "\n", encoding="utf-8")
    return BREACHED if found.is_breached else 0


def _sides(texts: list[str]) -> tuple[list[str] | None, list[list[str]]]:
    """Labels, if there are any, and files; those of one label are one side."""
    from pyruntime.errors import InvalidInput

    pairs = [_split(text) for text in texts]
    by_label: dict[str, list[str]] = {}
    for (label, files), text in zip(pairs, texts, strict=True):
        if label is not None:
            by_label.setdefault(label, []).extend(files)
        elif any(other is not None for other, _ in pairs):
            raise InvalidInput(f"compare: expected LABEL=FILE on all sides or none, got {text!r}")
    if not by_label:
        return None, [files for _, files in pairs]
    return list(by_label), list(by_label.values())


def _split(text: str) -> tuple[str | None, list[str]]:
    """A side's label and files; a file whose name has such characters is taken as it is."""
    if Path(text).exists():
        return None, [text]
    label, equals, rest = text.partition("=")
    if equals and label and "/" not in label:
        return label, [rest] if Path(rest).exists() else rest.split(",")
    return None, text.split(",")
