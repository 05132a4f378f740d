"""Arguments of `pyruntime serve`, and the options that they stand for."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.arguments import count, positive, rows, seconds, size_bytes
from pyruntime.config.files import read_secret
from pyruntime.config.repository import MODES
from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from pyruntime.config import ModelOptions
    from pyruntime.config.repository import RepositoryOptions
    from pyruntime.frontends import FrontEndOptions, TlsFiles
    from pyruntime.frontends.management import Management
    from pyruntime.repository import ModelRepository
    from pyruntime.serving_state import StateStore

DEFAULT_ADDRESS = "127.0.0.1:8001"


def add_listening(parser: ArgumentParser) -> None:
    """Add where it listens, and how much it takes on."""
    listen = parser.add_argument_group("listening")
    listen.add_argument(
        "--grpc",
        metavar="ADDRESS",
        action="append",
        help="HOST:PORT or unix:PATH; may be given again. "
        f"Default: {DEFAULT_ADDRESS}, for this machine alone; 0.0.0.0:8001 opens it to the network",
    )
    listen.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM certificate chain")
    listen.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM private key")
    listen.add_argument(
        "--tls-client-ca",
        metavar="FILE",
        type=Path,
        help="PEM certificates that must have signed those of clients (mutual TLS)",
    )
    listen.add_argument(
        "--max-message-mib", metavar="N", type=positive, default=256, help="default: %(default)s"
    )
    listen.add_argument(
        "--max-inferences",
        metavar="N",
        type=positive,
        default=64,
        help="under way at once; further ones are refused. Default: %(default)s",
    )
    listen.add_argument(
        "--max-streams",
        metavar="N",
        type=positive,
        default=64,
        help="open at once; further ones are refused. Default: %(default)s",
    )
    listen.add_argument(
        "--route-key-header",
        metavar="NAME",
        type=_header,
        help="metadata whose value keeps a caller's requests on one version, where they have no "
        "parameter route_key. Default: none",
    )
    listen.add_argument(
        "--drain-timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="for accepted requests when asked to stop. Default: %(default)g",
    )


def add_repository(parser: ArgumentParser) -> None:
    """Add which models are loaded, and when."""
    repository = parser.add_argument_group("repository")
    repository.add_argument(
        "--mode",
        choices=MODES,
        default="none",
        help="none: serve what is there at the start; poll: and what changes; explicit: what "
        "--load-model and load calls ask for. Default: %(default)s",
    )
    repository.add_argument(
        "--load-model",
        metavar="NAME",
        action="append",
        default=[],
        help="at the start, in mode explicit; *: all; may be given again. Default: none",
    )
    repository.add_argument(
        "--poll-every",
        metavar="SECONDS",
        type=seconds,
        help="look for changes so often, in mode poll. Default: when the file system tells",
    )
    repository.add_argument(
        "--state",
        metavar="FOLDER",
        type=Path,
        help="keep labels, routes and rollouts that are set at run time, and what experiments "
        "count, here. Default: in the repository, a file .serving.json for each model",
    )
    repository.add_argument(
        "--on-demand", action="store_true", help="load each model at its first request"
    )
    repository.add_argument(
        "--memory-budget",
        metavar="SIZE",
        type=size_bytes,
        help="of all models, such as 8GiB; those that were used least recently make room. "
        "Default: no limit",
    )
    repository.add_argument(
        "--load-threads",
        metavar="N",
        type=positive,
        default=1,
        help="versions that load at once. Default: %(default)s",
    )
    repository.add_argument(
        "--no-gentle",
        action="store_true",
        help="load as fast as possible, whatever that does to requests",
    )


def add_management(parser: ArgumentParser) -> None:
    """Add who may list, load and unload models."""
    management = parser.add_argument_group(
        "management",
        "Calls that load and unload models are taken in mode explicit at the addresses above; "
        "with --management in every mode, and only there.",
    )
    management.add_argument(
        "--management", metavar="ADDRESS", help="HOST:PORT or unix:PATH, for management alone"
    )
    management.add_argument(
        "--management-token-file",
        metavar="FILE",
        type=Path,
        help="holds a secret that management calls must show as a bearer token",
    )
    management.add_argument(
        "--management-tls-client-ca",
        metavar="FILE",
        type=Path,
        help="PEM certificates that must have signed those of management clients (mutual TLS, "
        "with --tls-cert and --tls-key)",
    )


def add_models(parser: ArgumentParser) -> None:
    """Add what models without a configuration of their own are loaded with."""
    models = parser.add_argument_group("models")
    models.add_argument(
        "--strict", action="store_true", help="end with status 1 if any version cannot be loaded"
    )
    models.add_argument(
        "--max-rows",
        metavar="N",
        type=rows,
        default="auto",
        help="in one batch; 1: no batching; auto: as many as make a row cheaper. "
        "Default: %(default)s",
    )
    models.add_argument(
        "--max-delay-us",
        metavar="N",
        type=count,
        default=0,
        help="longest wait of a request for company. Default: %(default)s",
    )
    models.add_argument(
        "--queue-capacity",
        metavar="N",
        type=positive,
        default=1024,
        help="requests that wait; more are refused. Default: %(default)s",
    )
    models.add_argument(
        "--instances",
        metavar="N",
        type=positive,
        default=1,
        help="batches of a model at once. Default: %(default)s",
    )
    models.add_argument(
        "--device", metavar="NAME", default="cpu", help="see pyruntime devices. Default: cpu"
    )
    models.add_argument(
        "--provider",
        metavar="NAME",
        action="append",
        default=[],
        help="execution provider, in order of preference. Default: the device's own",
    )
    models.add_argument(
        "--intra-op-threads",
        metavar="N",
        type=count,
        default=1,
        help="within an operator; 0: the engine's choice. Default: %(default)s",
    )
    models.add_argument(
        "--onnxruntime",
        metavar="FILE",
        type=Path,
        help="ONNX Runtime's library. Default: the installed wheel's",
    )


def repository_options(args: Namespace) -> RepositoryOptions:
    """How the repository is served."""
    from pyruntime.config.repository import RepositoryOptions

    return RepositoryOptions(
        mode=args.mode,
        load=tuple(args.load_model),
        defaults=_model_options(args),
        poll_every_s=args.poll_every,
        on_demand=args.on_demand,
        memory_budget_bytes=args.memory_budget,
        load_threads=args.load_threads,
        gentle=not args.no_gentle,
    )


def public_options(args: Namespace, repository: ModelRepository) -> FrontEndOptions:
    """Where inferences are taken."""
    from pyruntime.frontends import FrontEndOptions

    return FrontEndOptions(
        addresses=tuple(args.grpc or [DEFAULT_ADDRESS]),
        tls=_tls_files(args.tls_cert, args.tls_key, args.tls_client_ca),
        max_message_bytes=_message_bytes(args),
        max_inferences=args.max_inferences,
        max_streams=args.max_streams,
        route_key_header=args.route_key_header,
        management=_public_management(args, repository),
    )


def state_store(args: Namespace) -> StateStore:
    """Where what is set at run time is kept."""
    from pyruntime.serving_state import StateStore

    if args.state is None:
        return StateStore(args.repository)
    return StateStore(args.state, makes_folders=True)


def management_options(args: Namespace, repository: ModelRepository) -> FrontEndOptions | None:
    """Where management calls are taken, if that is apart."""
    from pyruntime.frontends import FrontEndOptions
    from pyruntime.frontends.address import UnixAddress, parse_address
    from pyruntime.frontends.management import Management

    token_file, client_ca = args.management_token_file, args.management_tls_client_ca
    if args.management is None:
        if token_file is not None or client_ca is not None:
            raise InvalidInput("management: expected --management ADDRESS with its other options")
        return None
    is_unix = isinstance(parse_address(args.management), UnixAddress)
    if not is_unix and token_file is None and client_ca is None:
        raise InvalidInput(
            f"--management {args.management}: expected --management-token-file or "
            "--management-tls-client-ca, or unix:PATH, which its file's permissions guard"
        )
    token = None if token_file is None else read_secret(token_file)
    return FrontEndOptions(
        addresses=(args.management,),
        tls=_tls_files(args.tls_cert, args.tls_key, client_ca),
        max_message_bytes=_message_bytes(args),
        management=Management(repository, is_only=True, token=token),
    )


def _public_management(args: Namespace, repository: ModelRepository) -> Management:
    from pyruntime.frontends.management import Management

    if args.management is not None:
        refusal = "management calls are taken at another address"
        return Management(repository, refusal=refusal, refuses_reading=True)
    if args.mode == "explicit":
        return Management(repository)
    refusal = (
        f"loading and unloading by calls is off in mode {args.mode}: start the server with "
        "--mode explicit or --management ADDRESS"
    )
    return Management(repository, refusal=refusal)


def _header(text: str) -> str:
    name = text.lower()
    if not re.fullmatch(r"[a-z0-9_.-]+", name) or name.startswith("grpc-"):
        raise argparse.ArgumentTypeError(f"expected the name of a header, got {text!r}")
    return name


def _message_bytes(args: Namespace) -> int:
    size: int = min(args.max_message_mib << 20, (1 << 31) - 1)
    return size


def _tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    from pyruntime.frontends import TlsFiles

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InvalidInput("TLS: expected both --tls-cert and --tls-key")
    return TlsFiles(cert, key, client_ca)


def _model_options(args: Namespace) -> ModelOptions:
    from pyruntime.config import Batching, InstanceGroup, ModelOptions, ProviderOptions

    return ModelOptions(
        batching=Batching(
            max_rows=args.max_rows,
            max_delay_us=args.max_delay_us,
            queue_capacity=args.queue_capacity,
        ),
        instances=(InstanceGroup(device=args.device, count=args.instances),),
        providers=tuple(ProviderOptions(name) for name in args.provider),
        intra_op_threads=args.intra_op_threads,
    )
