"""Which server a subcommand talks to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.arguments import seconds

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from pyruntime.client import Client

__all__ = ["add_arguments", "connect"]


def add_arguments(parser: ArgumentParser, *, timeout_s: float = 60.0) -> None:
    """Add where the server is, and how it knows its user."""
    server = parser.add_argument_group("server")
    server.add_argument(
        "--server",
        metavar="ADDRESS",
        default="127.0.0.1:8001",
        help="HOST:PORT or unix:PATH. Default: %(default)s",
    )
    server.add_argument(
        "--token-file", metavar="FILE", type=Path, help="holds the server's management token"
    )
    server.add_argument("--tls", action="store_true", help="with the system's certificates")
    server.add_argument("--tls-ca", metavar="FILE", type=Path, help="PEM, to check the server by")
    server.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM, of this client")
    server.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM, of this client")
    server.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=timeout_s, help="default: %(default)g"
    )


def connect(args: Namespace) -> Client:
    """Give a client of that server."""
    from pyruntime.client import Client, ClientTls
    from pyruntime.config.files import read_secret

    has_tls = args.tls or args.tls_ca or args.tls_cert or args.tls_key
    tls = ClientTls(args.tls_ca, args.tls_cert, args.tls_key) if has_tls else None
    token = None if args.token_file is None else read_secret(args.token_file)
    return Client(args.server, tls=tls, token=token)
