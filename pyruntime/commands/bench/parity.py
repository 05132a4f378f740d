"""`pyruntime bench parity`: whether a model answers the same however it is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.bench.arguments import (
    add_dim,
    add_json,
    add_options,
    add_rows,
    add_seed,
    check_json,
    show,
    words,
)

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

BEYOND = 3


def add_parser(benches: Commands) -> None:
    """Add this measurement's parser."""
    parser = benches.add_parser(
        "parity",
        help="whether a model answers the same on other devices, providers, precisions",
        description="Runs the same requests by a model on the first device and in other ways, one "
        "changed at a time, and prints how far the outputs are apart and where most.",
        epilog=f"exit status: 0 where all that ran agrees within the tolerances, {BEYOND} where it "
        "does not, 1 for an error, 2 for wrong usage. What this machine lacks is named as skipped.",
    )
    parser.add_argument("model", metavar="MODEL.onnx", type=Path)
    parser.add_argument(
        "--device",
        metavar="NAME,...",
        type=words,
        default=("cpu",),
        help="the first is the reference's. Default: cpu",
    )
    parser.add_argument(
        "--provider", metavar="NAME,...", type=words, help="default: those of this ONNX Runtime"
    )
    parser.add_argument(
        "--vary",
        metavar="KIND,...",
        type=words,
        help="of repeat, device, provider, optimization, threads, batch, precision. Default: all",
    )
    parser.add_argument(
        "--against",
        metavar="OTHER.onnx",
        type=Path,
        action="append",
        default=[],
        help="another file of the same model, such as a quantised one; may be given again",
    )
    add_rows(parser)
    parser.add_argument(
        "--samples", metavar="N", type=int, default=16, help="requests. Default: %(default)s"
    )
    add_dim(parser, default=1)
    add_seed(parser)
    parser.add_argument(
        "--inputs",
        metavar="FILE.npz",
        type=Path,
        help="arrays by the names of the inputs, in place of random ones; their first dimension "
        "is cut into requests",
    )
    parser.add_argument(
        "--rtol", metavar="X", type=float, help="relative. Default: 1e-4; 2e-2 for float16"
    )
    parser.add_argument(
        "--atol",
        metavar="X",
        type=float,
        help="absolute. Default: 1e-5 of the output's root mean square; 2e-2 for float16",
    )
    add_options(parser, also=", for all variants")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Compare, and print."""
    from pyruntime.bench import parity
    from pyruntime.bench.parity_text import parity_text
    from pyruntime.bench.request_inputs import read_npz
    from pyruntime.config import read_model_options

    check_json(args.json)
    found = parity(
        args.model,
        devices=args.device,
        providers=args.provider,
        against=args.against,
        rows=args.rows,
        samples=args.samples,
        dims=dict(args.dim),
        seed=args.seed,
        inputs=read_npz(args.inputs) if args.inputs else None,
        relative=args.rtol,
        absolute=args.atol,
        options=read_model_options(args.options) if args.options else None,
        **({"vary": args.vary} if args.vary else {}),
    )
    show(found.to_json(), args.json, lambda: parity_text(found))
    return 0 if found.is_close else BEYOND
