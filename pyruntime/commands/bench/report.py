"""`pyruntime bench report`: a page of plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(benches: Commands) -> None:
    """Add this measurement's parser."""
    parser = benches.add_parser(
        "report",
        help="a page of plots from results",
        description="Writes one HTML page that needs no other file and no network: latency against "
        "throughput, throughput by batch, latency by percentile, cost; and the plots as PNG.",
    )
    parser.add_argument(
        "files",
        metavar="[LABEL=]RESULTS.json",
        nargs="+",
        help="of `bench run --json`; LABEL names it on the page, and files of one label are one",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("report.html"),
        help="default: %(default)s",
    )
    parser.add_argument(
        "--price",
        metavar="NAME=AMOUNT/h",
        action="append",
        default=[],
        help="of an hour of a file's machine, a target or a device, as 'a100=3.67/h' or "
        "'cuda:0=$3.67/h'; may be given again",
    )
    parser.add_argument("--title", metavar="TEXT", default="Benchmark report")
    parser.add_argument("--no-png", action="store_true", help="write the page alone")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Write the page, and say where."""
    from pyruntime.bench import report
    from pyruntime.errors import InvalidInput

    pairs = [_split(text) for text in args.files]
    is_labelled = [label is not None for label, _ in pairs]
    if any(is_labelled) and not all(is_labelled):
        missing = args.files[is_labelled.index(False)]
        raise InvalidInput(f"report: expected LABEL=FILE for all files or none, got {missing!r}")
    written = report(
        *(path for _, path in pairs),
        output=args.output,
        labels=[label or "" for label, _ in pairs] if all(is_labelled) else None,
        prices=args.price,
        images=not args.no_png,
        title=args.title,
    )
    for path in written:
        print(path)
    return 0


def _split(text: str) -> tuple[str | None, str]:
    label, equals, path = text.partition("=")
    if Path(text).exists() or not equals or not label or "/" in label:
        return None, text
    return label, path
