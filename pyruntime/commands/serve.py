"""`pyruntime serve`: a repository's models over gRPC."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands import serve_options
from pyruntime.commands.signals import StopSignal
from pyruntime.commands.table import table

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    from pyruntime.frontends import FrontEnd
    from pyruntime.repository import ModelRepository, VersionStatus

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# How soon a signal is noticed while models load: seconds.
_STOP_CHECK_S = 0.1


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "serve",
        help="serve a repository's models over gRPC",
        description="Loads the latest REPOSITORY/<model>/<version>/model.onnx of each model and "
        "serves them over the Open Inference Protocol until SIGTERM or Ctrl-C; then answers what "
        "it has accepted, and ends. A version that cannot be loaded is reported, and the one "
        "before it is served. A model's own REPOSITORY/<model>/model.toml or config.pbtxt takes "
        "the place of the model options here.",
        epilog="Exit status: 0 after a clean stop, 1 when nothing could be loaded, an address is "
        "in use or requests were cut off, 2 wrong usage.",
    )
    parser.add_argument("repository", metavar="REPOSITORY", type=Path, help="folder of models")

    serve_options.add_listening(parser)
    serve_options.add_repository(parser)
    serve_options.add_management(parser)
    serve_options.add_models(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Load, listen, wait for a signal, drain."""
    options = serve_options.repository_options(args)

    from pyruntime.config import find_onnxruntime
    from pyruntime.frontends import front_end
    from pyruntime.repository import ModelRepository
    from pyruntime.runtime import Runtime

    library = find_onnxruntime(args.onnxruntime)
    with StopSignal() as stop, Runtime(onnxruntime=library) as runtime:
        repository = ModelRepository(args.repository, runtime=runtime, options=options)
        wanted = [
            serve_options.management_options(args, repository),
            serve_options.public_options(args, repository),
        ]
        servers = [front_end("grpc")(runtime, one) for one in wanted if one is not None]
        try:
            for problem in runtime.restore_routing(serve_options.state_store(args)):
                print(f"pyruntime: warning: {problem}", file=sys.stderr)
            repository.start(wait=False)
            while not repository.wait_settled(_STOP_CHECK_S):
                if stop.is_set:
                    return 0
            if not _report(repository, strict=args.strict):
                return 1
            repository.listen(_tell)
            for server in servers:
                server.start()
            _announce(servers, has_tls=args.tls_cert is not None)
            stop.wait()
            return _drain(repository, servers, args.drain_timeout)
        finally:
            for server in servers:
                server.stop()
            repository.close()


def _announce(servers: list[FrontEnd], *, has_tls: bool) -> None:
    *management, public = servers
    for server in (public, *management):
        for address in server.addresses:
            what = "gRPC" if server is public else "management"
            security = ", TLS" if has_tls and not address.startswith("unix:") else ""
            print(f"listening on {address} ({what}{security})")
    print("Ctrl-C ends it.", flush=True)


def _drain(repository: ModelRepository, servers: list[FrontEnd], timeout_s: float) -> int:
    print("draining", flush=True)
    *management, public = servers
    for server in management:
        server.stop()
    is_drained = public.drain(timeout_s)
    if not is_drained:
        print(
            f"pyruntime: error: requests were still under way after {timeout_s:g} s",
            file=sys.stderr,
        )
        return 1
    public.stop()
    repository.close()
    print("stopped", flush=True)
    return 0


def _tell(status: VersionStatus) -> None:
    """Print what became of a version while serving."""
    note = f": {status.reason}" if status.reason else ""
    state = "failed" if status.is_failed else status.state.lower()
    print(f"{status.model} version {status.version}: {state}{note}", flush=True)


def _report(repository: ModelRepository, *, strict: bool) -> bool:
    """Print what was loaded and what was not; whether to go on."""
    statuses = repository.index()
    rows = []
    for status in statuses:
        state, note = "failed" if status.is_failed else "-", status.reason
        if status.state == "READY":
            state, note = "ready", f"in {status.seconds * 1000:.0f} ms"
            note += f"; {status.reason}" if status.reason else ""
        rows.append((status.model, status.version or "-", state, note))
    if rows:
        print(table(rows, header=("MODEL", "VERSION", "STATE", ""), right=(1,)), flush=True)
    failed = sum(status.is_failed for status in statuses)
    is_empty = not any(status.state == "READY" for status in statuses)
    where = f"pyruntime: error: {repository.root}"
    if is_empty and repository.mode == "none" and failed == len(statuses):
        what = f"none of {failed} versions could be loaded" if failed else "found no model"
        print(f"{where}: {what}", file=sys.stderr)
        return False
    if failed and strict:
        print(
            f"{where}: {failed} of {len(statuses)} versions could not be loaded, and --strict "
            "was given",
            file=sys.stderr,
        )
        return False
    return True
