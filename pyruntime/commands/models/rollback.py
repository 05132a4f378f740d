"""`pyruntime models rollback`: the version before answers again, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyruntime.commands.models.connection import add_arguments, connect
from pyruntime.commands.models.routing_calls import call, print_json, print_rollout

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "rollback",
        help="have the version before answer again, at once",
        description="Ends a rollout that is under way, or undoes the last one while the version "
        "before is still loaded: that version answers everything from the next request on. Without "
        "a rollout, the latest version is unloaded for the one that it took the place of.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Roll back, and say what answers."""
    with connect(args) as client:
        status = call(client, "Rollback", args.timeout, model=args.model)
    (print_json if args.json else print_rollout)(status)
    return 0
