"""`pyruntime models list`: every version, its state, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pyruntime.commands.models.connection import add_arguments, connect
from pyruntime.commands.table import table

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("list", help="list every version and its state")
    parser.add_argument("--ready", action="store_true", help="only those that are served")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print the repository's index."""
    with connect(args) as client:
        index = client.repository_index(ready_only=args.ready, timeout_s=args.timeout)
    rows = [(one.name, one.version, one.state, one.reason) for one in index.models]
    if args.json:
        names = ("model", "version", "state", "reason")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    else:
        shown = [(model, version or "-", state, reason) for model, version, state, reason in rows]
        print(table(shown, header=("MODEL", "VERSION", "STATE", "REASON"), right=(1,)))
    return 0
