"""The command `pyruntime`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pyruntime import __version__
from pyruntime.commands import bench, demo, devices, infer, models, serve
from pyruntime.errors import PyRuntimeError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (serve, infer, models, devices, bench, demo)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    parser = argparse.ArgumentParser(
        prog="pyruntime",
        description="Serves machine-learning models from a C++ core, in process and over gRPC.",
        epilog="pyruntime COMMAND --help says more. Exit status: 0 success, 1 failure, "
        "2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"pyruntime {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the user's mistakes make no tracebacks."""
    args = build_parser().parse_args(arguments)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output is gone; keep the interpreter from flushing to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (PyRuntimeError, OSError) as error:
        message = error.strerror if isinstance(error, OSError) and not error.filename else error
        print(f"pyruntime: error: {message or error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
