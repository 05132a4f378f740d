"""`pyruntime bench tune`: searches the options that serve the most within a promise."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.bench.arguments import (
    add_dim,
    add_json,
    add_rows,
    add_seed,
    check_json,
    numbers,
    show,
)

if TYPE_CHECKING:
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NOT_KEPT = 3


def add_parser(benches: Commands) -> None:
    """Add this measurement's parser."""
    parser = benches.add_parser(
        "tune",
        help="search threads, instances, batch limit and other options; write model.toml",
        description="Measures combinations of options and load in turns, keeps the better half "
        "again and again, and writes the best into model.toml if it is surely better than what is "
        "there.",
        epilog=f"exit status: 0, also where nothing better was found; {NOT_KEPT} where nothing "
        "keeps the promise; 1 for an error, 2 for wrong usage.",
    )
    parser.add_argument("model", metavar="MODEL.onnx", type=Path)
    parser.add_argument(
        "--slo", metavar="FIGURE=TIME", required=True, help="the promise, such as p99=10ms"
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=float,
        default=60.0,
        help="for everything; a slow model needs more. Default: %(default)g",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N,...",
        type=numbers,
        default=(1, 4, 16, 64),
        help="requests in flight that are tried with all options. Default: 1,4,16,64",
    )
    add_rows(parser)
    parser.add_argument(
        "--threads", metavar="N,...", type=numbers, help="within one operator, to try"
    )
    parser.add_argument("--instances", metavar="N,...", type=numbers, help="to try")
    parser.add_argument(
        "--max-rows", metavar="N|auto,...", type=_max_rows, help="batch limits to try"
    )
    parser.add_argument(
        "--try",
        dest="tries",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        help="another key of model.toml, such as allow_spinning=true,false or "
        "providers.cuda.cudnn_conv_algo_search=EXHAUSTIVE,HEURISTIC; may be given again",
    )
    add_dim(parser)
    parser.add_argument(
        "--inputs", metavar="FILE.npz", type=Path, help="arrays in place of random ones"
    )
    add_seed(parser)
    parser.add_argument(
        "--toml",
        metavar="FILE",
        type=Path,
        help="options to begin with, and to change. Default: the model's model.toml",
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Search, print, write."""
    from pyruntime.bench import tune
    from pyruntime.bench.tuning_text import tuning_text

    check_json(args.json)
    found = tune(
        args.model,
        slo=args.slo,
        seconds=args.seconds,
        concurrency=args.concurrency,
        rows=args.rows,
        threads=args.threads,
        instances=args.instances,
        max_rows=args.max_rows,
        tries=args.tries,
        inputs=args.inputs,
        dims=dict(args.dim),
        seed=args.seed,
        toml=args.toml,
        dry_run=args.dry_run,
        on_step=_tell,
    )
    show(found.to_json(), args.json, lambda: tuning_text(found))
    return 0 if found.best is not None else NOT_KEPT


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _max_rows(text: str) -> tuple[int | str, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part == "auto" or part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers or auto as 1,16,auto, got {text!r}")
    return tuple(part if part == "auto" else int(part) for part in parts)
