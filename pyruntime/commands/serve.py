"""`pyruntime serve`: a repository's models over gRPC."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyruntime.commands.signals import StopSignal
from pyruntime.commands.table import table
from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import Namespace

    from pyruntime.config import ModelOptions
    from pyruntime.frontends import FrontEnd, FrontEndOptions, TlsFiles
    from pyruntime.repository import LoadedVersion

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_ADDRESS = "127.0.0.1:8001"


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "serve",
        help="serve a repository's models over gRPC",
        description="Loads every REPOSITORY/<model>/<version>/model.onnx and serves them over "
        "the Open Inference Protocol until SIGTERM or Ctrl-C; then answers what it has accepted, "
        "and ends. A version that cannot be loaded is reported, and the others are served. "
        "A model's own REPOSITORY/<model>/model.toml takes the place of the model options here.",
        epilog="Exit status: 0 after a clean stop, 1 when nothing could be loaded, an address is "
        "in use or requests were cut off, 2 wrong usage.",
    )
    parser.add_argument("repository", metavar="REPOSITORY", type=Path, help="folder of models")

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
        "--max-message-mib", metavar="N", type=_positive, default=256, help="default: %(default)s"
    )
    listen.add_argument(
        "--max-inferences",
        metavar="N",
        type=_positive,
        default=64,
        help="under way at once; further ones are refused. Default: %(default)s",
    )
    listen.add_argument(
        "--max-streams",
        metavar="N",
        type=_positive,
        default=64,
        help="open at once; further ones are refused. Default: %(default)s",
    )
    listen.add_argument(
        "--drain-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="for accepted requests when asked to stop. Default: %(default)g",
    )

    models = parser.add_argument_group("models")
    models.add_argument(
        "--strict", action="store_true", help="end with status 1 if any version cannot be loaded"
    )
    models.add_argument(
        "--max-rows",
        metavar="N",
        type=_rows,
        default="auto",
        help="in one batch; 1: no batching; auto: as many as make a row cheaper. "
        "Default: %(default)s",
    )
    models.add_argument(
        "--max-delay-us",
        metavar="N",
        type=_count,
        default=0,
        help="longest wait of a request for company. Default: %(default)s",
    )
    models.add_argument(
        "--queue-capacity",
        metavar="N",
        type=_positive,
        default=1024,
        help="requests that wait; more are refused. Default: %(default)s",
    )
    models.add_argument(
        "--instances",
        metavar="N",
        type=_positive,
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
        type=_count,
        default=1,
        help="within an operator; 0: the engine's choice. Default: %(default)s",
    )
    models.add_argument(
        "--onnxruntime",
        metavar="FILE",
        type=Path,
        help="ONNX Runtime's library. Default: the installed wheel's",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Load, listen, wait for a signal, drain."""
    front_end_options = _front_end_options(args)
    model_options = _model_options(args)

    from pyruntime import repository
    from pyruntime.config import find_onnxruntime
    from pyruntime.frontends import front_end
    from pyruntime.runtime import Runtime

    found = repository.scan(args.repository)
    library = find_onnxruntime(args.onnxruntime)
    with StopSignal() as stop, Runtime(onnxruntime=library) as runtime:
        server = front_end("grpc")(runtime, front_end_options)
        try:
            loaded = []
            for version in repository.load(runtime, found, model_options):
                loaded.append(version)
                if stop.is_set:
                    return 0
            if not _report(args.repository, loaded, strict=args.strict):
                return 1
            server.start()
            for address in server.addresses:
                security = "" if address.startswith("unix:") or args.tls_cert is None else ", TLS"
                print(f"listening on {address} (gRPC{security})")
            print("Ctrl-C ends it.", flush=True)
            stop.wait()
            return _drain(server, args.drain_timeout)
        finally:
            server.stop()


def _drain(server: FrontEnd, timeout_s: float) -> int:
    print("draining", flush=True)
    if not server.drain(timeout_s):
        print(
            f"pyruntime: error: requests were still under way after {timeout_s:g} s",
            file=sys.stderr,
        )
        return 1
    server.stop()
    print("stopped", flush=True)
    return 0


def _report(repository: Path, loaded: list[LoadedVersion], *, strict: bool) -> bool:
    """Print what was loaded and what was not; whether to go on."""
    rows = []
    for item in loaded:
        state, note = "failed", item.found.problem or ""
        if item.model is not None:
            state, note = "ready", f"in {item.seconds * 1000:.0f} ms"
        rows.append((item.found.model, item.found.version or "-", state, note))
    if rows:
        print(table(rows, header=("MODEL", "VERSION", "STATE", ""), right=(1,)), flush=True)
    failed = sum(item.model is None for item in loaded)
    if failed == len(loaded):
        what = f"none of {failed} versions could be loaded" if failed else "found no model"
        print(f"pyruntime: error: {repository}: {what}", file=sys.stderr)
        return False
    if failed and strict:
        print(
            f"pyruntime: error: {repository}: {failed} of {len(loaded)} versions could not be "
            "loaded, and --strict was given",
            file=sys.stderr,
        )
        return False
    return True


def _front_end_options(args: Namespace) -> FrontEndOptions:
    from pyruntime.frontends import FrontEndOptions

    return FrontEndOptions(
        addresses=tuple(args.grpc or [DEFAULT_ADDRESS]),
        tls=_tls_files(args),
        max_message_bytes=min(args.max_message_mib << 20, (1 << 31) - 1),
        max_inferences=args.max_inferences,
        max_streams=args.max_streams,
    )


def _tls_files(args: Namespace) -> TlsFiles | None:
    from pyruntime.frontends import TlsFiles

    if args.tls_cert is None and args.tls_key is None and args.tls_client_ca is None:
        return None
    if args.tls_cert is None or args.tls_key is None:
        raise InvalidInput("TLS: expected both --tls-cert and --tls-key")
    return TlsFiles(args.tls_cert, args.tls_key, args.tls_client_ca)


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


def _rows(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else _positive(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if (value := _count(text)) < 1:
        raise argparse.ArgumentTypeError("expected at least 1, got 0")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return value
