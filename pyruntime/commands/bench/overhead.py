"""`pyruntime bench overhead`: the ledger of where the time of a request goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.bench.arguments import (
    add_dim,
    add_json,
    add_options,
    add_rows,
    add_seed,
    check_json,
    numbers,
    show,
)

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(benches: Commands) -> None:
    """Add this measurement's parser."""
    parser = benches.add_parser(
        "overhead",
        help="the ledger: what each step between the bare engine and a caller costs",
        description="Sends the same random request to a model by every way there is, from bare C "
        "Run of ONNX Runtime to gRPC over TCP, in turns, and prints what each step costs beyond "
        "the one before it and what that is made of.",
    )
    parser.add_argument("model", metavar="MODEL.onnx", type=Path)
    add_rows(parser)
    parser.add_argument(
        "--in-flight",
        metavar="N,...",
        type=numbers,
        default=(1, 8, 32),
        help="requests at once, beside 1. Default: 1,8,32",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=float,
        default=20.0,
        help="for everything; more makes the intervals narrower. Default: %(default)g",
    )
    add_dim(parser, default=1)
    add_options(parser, also=", such as intra_op_threads = 2")
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Measure, and print."""
    from pyruntime.bench import overhead
    from pyruntime.bench.ledger_text import ledger_text
    from pyruntime.config import read_model_options

    # What is wrong with the arguments shows before the time is spent.
    check_json(args.json)
    if sys.stderr.isatty():
        print(f"measuring for {args.seconds:g} s ...", file=sys.stderr)
    ledger = overhead(
        args.model,
        rows=args.rows,
        in_flight=args.in_flight,
        seconds=args.seconds,
        dims=dict(args.dim),
        seed=args.seed,
        options=read_model_options(args.options) if args.options else None,
    )
    show(ledger.to_json(), args.json, lambda: ledger_text(ledger))
    return 0
