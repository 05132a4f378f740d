"""`pyruntime models unload`."""

from __future__ import annotations

import json
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
        "unload",
        help="unload a model, or a version of it",
        description="Stops serving a version (or all of them), answers what it has "
        "accepted, and frees it.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--version", metavar="N", type=positive, help="default: see above")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser, timeout_s=600.0)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Unload, and say what is served then."""
    with connect(args) as client:
        client.unload(args.model, args.version, timeout_s=args.timeout)
        index = client.repository_index(ready_only=True, timeout_s=args.timeout)
    served = [int(one.version) for one in index.models if one.name == args.model]
    if args.json:
        print(json.dumps({"model": args.model, "served": served}))
    else:
        names = ", ".join(map(str, served)) or "none"
        print(f"{args.model}: unloaded; versions served: {names}")
    return 0
