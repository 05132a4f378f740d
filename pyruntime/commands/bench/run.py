"""`pyruntime bench run`: a grid of measurements, in this process or of any server."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.commands.bench.arguments import (
    add_dim,
    add_options,
    add_seed,
    numbers,
    rates,
    words,
)

if TYPE_CHECKING:
    from argparse import Namespace

    from pyruntime.bench.results import Results

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_EXAMPLES = """examples:
  pyruntime bench run digits.onnx --concurrency 1,8,32 --json before.json
  pyruntime bench run digits.onnx --threads 1,2 --batch 1,16 --concurrency 4
  pyruntime bench run digits.onnx --target grpc://127.0.0.1:8001 --rate 500,1000
  pyruntime bench run digits --target grpc://127.0.0.1:8001 --find-max-qps --slo p99=10ms
  pyruntime bench run digits.onnx --scenario single-stream,server --rate 200

docs/benchmarking.md says what is measured and how to read it.
"""


def add_parser(benches: Commands) -> None:
    """Add this measurement's parser."""
    parser = benches.add_parser(
        "run",
        help="latency and throughput of a model, here or on a server",
        description="Measures every combination of what is given: latencies, throughput,\n"
        "processor time, memory, batch sizes, errors. Each point is warmed up and repeated\n"
        "until its figure is known well enough, or its time is up.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL.onnx|REPOSITORY",
        help="a file, a repository's folder, or with --target the model's name on the server",
    )
    _add_what(parser)
    _add_load(parser)
    _add_client(parser)
    _add_requests(parser)
    _add_how(parser)
    parser.set_defaults(run=run)


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--target",
        metavar="TARGET",
        default="inproc",
        help="inproc, or grpc://HOST:PORT, grpcs://HOST:PORT (TLS), grpc://unix:PATH of any server "
        "of the Open Inference Protocol v2. Default: %(default)s",
    )
    group.add_argument(
        "--model-name",
        metavar="NAME,...",
        type=words,
        default=(),
        help="models of the repository, all by default; what the server calls the file's model",
    )
    group.add_argument(
        "--device", metavar="DEVICE,...", type=words, default=(), help="as cpu,cuda:0"
    )
    group.add_argument(
        "--provider",
        metavar="NAME,...",
        type=words,
        default=(),
        help="execution providers, each by itself. Default: the device's own",
    )
    group.add_argument(
        "--threads",
        metavar="N,...",
        type=numbers,
        default=(),
        help="within one operator; 0: the engine's choice. Default: 1, or what --options say",
    )
    group.add_argument(
        "--instances", metavar="N,...", type=numbers, default=(), help="that run at once"
    )
    group.add_argument(
        "--max-rows",
        metavar="N|auto,...",
        type=words,
        default=(),
        help="the scheduler's largest batch. Default: auto",
    )
    add_options(group)


def _add_client(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how a server is sent requests")
    group.add_argument(
        "--client-threads",
        metavar="N",
        type=int,
        default=1,
        help="that send to a server. Default: %(default)s",
    )
    group.add_argument(
        "--connections",
        metavar="N",
        type=int,
        default=1,
        help="of each client thread. Default: %(default)s",
    )
    group.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="without any answer, after which a server is given up. Default: %(default)g",
    )
    group.add_argument(
        "--tls-ca",
        metavar="FILE",
        type=Path,
        help="PEM, to check a server grpcs://... by. Default: the system's certificates",
    )
    group.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM, of this client")
    group.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM, of this client")
    group.add_argument(
        "--typed-contents",
        action="store_true",
        help="send values in the protocol's typed lists, for servers that read no raw bytes",
    )
    group.add_argument(
        "--service",
        metavar="NAME",
        help="of the server's gRPC service, where it is not inference.GRPCInferenceService",
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    group.add_argument(
        "--scenario",
        metavar="NAME,...",
        type=words,
        default=(),
        help="closed: so many in flight; open: so many arrive per second, whether or not others "
        "are answered; MLPerf's single-stream, multi-stream, server and offline, by LoadGen. "
        "Default: closed, or open with --rate",
    )
    group.add_argument(
        "--concurrency",
        metavar="N,...",
        type=numbers,
        default=(),
        help="requests in flight (closed), samples of a query (multi-stream). Default: 1; 8",
    )
    group.add_argument(
        "--rate", metavar="N,...", type=rates, default=(), help="requests per second (open, server)"
    )
    group.add_argument(
        "--find-max-qps",
        action="store_true",
        help="search for the highest rate that keeps --slo",
    )
    group.add_argument("--slo", metavar="FIGURE=TIME", help="such as p99=10ms")


def _add_requests(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("requests")
    group.add_argument(
        "--batch",
        metavar="N,...",
        type=numbers,
        default=(1,),
        help="rows of each request. Default: 1",
    )
    group.add_argument(
        "--inputs", metavar="FILE.npz", type=Path, help="arrays by name. Default: random values"
    )
    group.add_argument(
        "--zeros",
        action="store_true",
        help="instead of random values; may be faster than real data",
    )
    add_dim(group)
    add_seed(group, of="of values and arrivals")


def _add_how(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how long, and where to")
    group.add_argument(
        "--seconds",
        metavar="N",
        type=float,
        default=10.0,
        help="for each point, in each round, at most. Default: %(default)g",
    )
    group.add_argument(
        "--figure",
        metavar="NAME",
        default="p50_us",
        help="that is to be known well, such as p99_us or requests_per_s. Default: %(default)s",
    )
    group.add_argument(
        "--within",
        metavar="PERCENT",
        type=float,
        default=3.0,
        help="how well: half its 95 %% interval. Default: %(default)g",
    )
    group.add_argument(
        "--repetition",
        metavar="SECONDS",
        type=float,
        help="length of each repetition. Default: a share of --seconds",
    )
    group.add_argument(
        "--rounds",
        metavar="N",
        type=int,
        default=1,
        help="processes, one after the other, that each load and measure everything: the intervals "
        "then know what changes from one process to the next. Default: %(default)s",
    )
    group.add_argument(
        "--json", metavar="FILE", help="write the results there as they come; -: print them"
    )
    group.add_argument(
        "--quiet", action="store_true", help="no progress on stderr, the table alone"
    )


def run(args: Namespace) -> int:
    """Measure, and print. 1 where something could not be measured, or not to its end."""
    from pyruntime import bench
    from pyruntime.bench.results_text import results_text
    from pyruntime.commands.bench.progress import progress
    from pyruntime.config import read_model_options
    from pyruntime.errors import InvalidInput

    if args.find_max_qps != (args.slo is not None):
        raise InvalidInput("--find-max-qps and --slo: expected both or none, got one")
    to_file = args.json not in (None, "-")
    if to_file and not Path(args.json).absolute().parent.is_dir():
        raise InvalidInput(f"--json {args.json}: expected a file in a folder that exists")
    with progress(is_quiet=args.quiet) as on_event:
        results = bench.run(
            args.model,
            target=args.target,
            scenarios=args.scenario,
            rows=args.batch,
            concurrency=args.concurrency,
            rates=args.rate,
            slo=args.slo,
            devices=args.device,
            providers=args.provider,
            threads=args.threads,
            instances=args.instances,
            max_rows=[_max_rows(text) for text in args.max_rows],
            names=args.model_name,
            options=read_model_options(args.options) if args.options else None,
            inputs=args.inputs,
            zeros=args.zeros,
            dims=dict(args.dim),
            seed=args.seed,
            seconds=args.seconds,
            figure=args.figure,
            within=args.within / 100,
            repetition_s=args.repetition,
            rounds=args.rounds,
            client_threads=args.client_threads,
            connections=args.connections,
            patience_s=args.patience,
            tls_ca=args.tls_ca,
            tls_cert=args.tls_cert,
            tls_key=args.tls_key,
            typed_contents=args.typed_contents,
            service=args.service,
            save=args.json if to_file else None,
            command=("pyruntime", *(shlex.quote(word) for word in sys.argv[1:])),
            on_event=on_event,
        )
    if args.json == "-":
        print(json.dumps(results.to_json(), indent=2, allow_nan=False))
    else:
        print(results_text(results))
    return _status(results)


def _status(results: Results) -> int:
    is_whole = all(measurement.is_complete for measurement in results.measurements)
    return 0 if is_whole and not results.skipped else 1


def _max_rows(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text
