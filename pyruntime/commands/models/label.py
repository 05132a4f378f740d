"""`pyruntime models label`: names for versions, which move at once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pyruntime.commands.models.connection import add_arguments, connect
from pyruntime.commands.models.routing_calls import call, print_json, print_routing

if TYPE_CHECKING:
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "label",
        help="show a model's labels, or move them",
        description="Moves labels to versions that are loaded, all in one step, or shows them. "
        "Requests name a label by the parameter `label`.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument(
        "labels", metavar="LABEL=VERSION", nargs="*", type=_assignment, help="to be moved"
    )
    parser.add_argument(
        "--remove", metavar="LABEL", action="append", default=[], help="may be given again"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Move labels if any are given, and show what holds then."""
    labels = {**dict(args.labels), **dict.fromkeys(args.remove, 0)}
    with connect(args) as client:
        if labels:
            routing = call(client, "SetLabels", args.timeout, model=args.model, labels=labels)
        else:
            routing = call(client, "GetRouting", args.timeout, model=args.model)
    (print_json if args.json else print_routing)(routing)
    return 0


def _assignment(text: str) -> tuple[str, int]:
    label, _, version = text.partition("=")
    if not label or not (version.isascii() and version.isdigit() and 0 < int(version) < 2**63):
        raise argparse.ArgumentTypeError(f"expected LABEL=VERSION, such as stable=7, got {text!r}")
    return label, int(version)
