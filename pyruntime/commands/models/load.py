"""`pyruntime models load`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.arguments import positive
from pyruntime.commands.models.connection import add_arguments, connect

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "load",
        help="load a model, or a version of it",
        description="Loads the versions that the policy of the model says, or with "
        "--version one more, beside what is served. What is loaded and has not "
        "changed stays. Ends when it is served, or says why it is not.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--version", metavar="N", type=positive, help="default: see above")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="a model.toml or config.pbtxt to use in place of the repository's",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser, timeout_s=600.0)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Load, and say what is served then."""
    config = None if args.config is None else args.config.read_text(encoding="utf-8")
    with connect(args) as client:
        client.load(args.model, args.version, config=config, timeout_s=args.timeout)
        index = client.repository_index(ready_only=True, timeout_s=args.timeout)
    served = [int(one.version) for one in index.models if one.name == args.model]
    if args.json:
        print(json.dumps({"model": args.model, "served": served}))
    else:
        names = ", ".join(map(str, served)) or "none"
        print(f"{args.model}: loaded; versions served: {names}")
    return 0
