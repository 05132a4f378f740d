"""`pyruntime models promote`: a version takes over, step by step while its gates hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyruntime.commands.arguments import (
    count,
    duration,
    number,
    percent,
    percents,
    positive,
    ratio,
)
from pyruntime.commands.models.connection import add_arguments, connect
from pyruntime.commands.models.routing_calls import call, print_json, print_rollout

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_LOOK_EVERY_S = 0.5


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "promote",
        help="let a version take over, step by step while its gates hold",
        description="Gives a version rising shares of the requests while its latency, errors and "
        "answers hold against the version that answers now, and in the end all of them: the label "
        "that the route follows moves, or else the route itself. When a gate breaks, the version "
        "before answers everything again, and `rollout` says why. Without --canary it takes over "
        "at once. A version that is not loaded is loaded first.",
        epilog="Exit status: 0 when the rollout has begun (with --wait: when the version answers "
        "everything), 1 otherwise.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("version", metavar="VERSION", type=positive, help="to take over")
    parser.add_argument(
        "--canary", metavar="SHARES", type=percents, default=(), help="such as 1%%,10%%,50%%"
    )
    parser.add_argument(
        "--every",
        metavar="TIME",
        type=duration,
        default=300.0,
        help="each step at least, such as 30s. Default: 5m",
    )
    gates = parser.add_argument_group("gates", "against the version that answers now")
    gates.add_argument("--max-p99", metavar="RATIO", type=ratio, help="such as 1.2x its p99")
    gates.add_argument(
        "--max-error", metavar="SHARE", type=percent, help="of failures more than its, as 0.1%%"
    )
    gates.add_argument(
        "--max-diff",
        metavar="X",
        type=number,
        help="of answers to copies of its requests, absolute and relative, as 1e-3",
    )
    gates.add_argument(
        "--min-requests",
        metavar="N",
        type=count,
        help="to both versions before a step may end. Default: 100",
    )
    gates.add_argument(
        "--min-compared", metavar="N", type=count, help="with --max-diff. Default: 20"
    )
    gates.add_argument("--copied", metavar="SHARE", type=percent, help="default: 10%%")
    parser.add_argument("--wait", action="store_true", help="until it has ended")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser, timeout_s=600.0)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Begin, and say how it stands."""
    gates = {
        "max_p99": args.max_p99,
        "max_error": None if args.max_error is None else args.max_error / 100,
        "max_diff": args.max_diff,
        "min_requests": args.min_requests,
        "min_compared": args.min_compared,
        "copied": args.copied,
    }
    fields = {name: value for name, value in gates.items() if value is not None}
    with connect(args) as client:
        status: Any = call(
            client,
            "Promote",
            args.timeout,
            model=args.model,
            version=args.version,
            canary=args.canary,
            every_s=args.every,
            **fields,
        )
        while args.wait and status.status == "running":
            time.sleep(_LOOK_EVERY_S)
            status = call(client, "GetRollout", args.timeout, model=args.model)
    (print_json if args.json else print_rollout)(status)
    return 1 if status.status == "rolled_back" else 0
