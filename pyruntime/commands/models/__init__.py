"""`pyruntime models`: what a server serves, and what it is to serve.

Each subcommand is a module with add_parser(commands), and its line in SUBCOMMANDS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyruntime.commands.models import (
    index,
    label,
    load,
    promote,
    rollback,
    rollout,
    route,
    stats,
    unload,
)

if TYPE_CHECKING:
    import argparse

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

SUBCOMMANDS = (index, load, unload, label, route, promote, rollout, rollback, stats)


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "models",
        help="list, load, route to and promote a server's models",
        description="Asks a running server about its models, or changes what it serves. A server "
        "takes such calls in mode explicit, or at its --management address.",
    )
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in SUBCOMMANDS:
        command.add_parser(subcommands)
