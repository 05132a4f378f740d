"""`pyruntime demo`: real digits, read by two versions of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "demo",
        help="serve a digits classifier, and show what it does and how fast",
        description="Serves two versions of a small classifier of handwritten digits over gRPC, "
        "sends it images that it has never seen, shows what it reads in them and what a call "
        "costs beside the bare engine, and goes on serving until Ctrl-C.",
    )
    parser.add_argument("--once", action="store_true", help="end after the show")
    parser.add_argument(
        "--grpc",
        metavar="ADDRESS",
        help="where to listen. Default: 127.0.0.1:8001, or a free port if that is taken",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Run the show."""
    from pyruntime.demo.show import show

    return show(once=args.once, address=args.grpc)
