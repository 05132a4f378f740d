"""`pyruntime models route`: where requests go that name neither a version nor a label."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyruntime.commands.arguments import number, percent
from pyruntime.commands.models.connection import add_arguments, connect
from pyruntime.commands.models.routing_calls import call, print_json, print_routing
from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "route",
        help="show a model's route and its statistics, or set it",
        description="Sets where requests go that name neither a version nor a label, from the next "
        "one on; without a policy, shows it and what is counted of it.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    policy = parser.add_argument_group("policy, one of").add_mutually_exclusive_group()
    policy.add_argument("--latest", action="store_true", help="the highest loaded version")
    policy.add_argument("--label", metavar="LABEL", help="the version that it names")
    policy.add_argument("--version", metavar="N", help="this version")
    policy.add_argument(
        "--split",
        metavar="TARGET=SHARE,...",
        type=_shares,
        help="versions or labels by shares, such as stable=99%%,7=1%%",
    )
    policy.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="TOML with the keys of a model.toml's [route]: experiments and bandits too",
    )
    policy.add_argument("--declared", action="store_true", help="what the model.toml says")
    shadow = parser.add_argument_group("shadow, with a policy")
    shadow.add_argument("--shadow", metavar="TARGET", help="version or label that gets copies")
    shadow.add_argument(
        "--copied", metavar="SHARE", type=percent, default=100.0, help="default: 100%%"
    )
    shadow.add_argument(
        "--max-diff",
        metavar="X",
        type=number,
        default=0.0,
        help="tolerance of its answers, absolute and relative. Default: 0",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Set the route if one is given, and show what holds then."""
    route = None if args.declared else _route(args)
    with connect(args) as client:
        if args.declared or route is not None:
            text = "" if route is None else json.dumps(route)
            routing = call(client, "SetRoute", args.timeout, model=args.model, route=text)
        else:
            routing = call(client, "GetRouting", args.timeout, model=args.model)
    (print_json if args.json else print_routing)(routing)
    return 0


def _route(args: Namespace) -> dict[str, Any] | None:
    route: dict[str, Any] | None = None
    if args.file is not None:
        route = _read(args.file)
    elif args.latest:
        route = {"policy": "latest"}
    elif args.label is not None:
        route = {"policy": "label", "label": args.label}
    elif args.version is not None:
        route = {"policy": "version", "version": _number(args.version)}
    elif args.split is not None:
        route = {"policy": "split", "shares": args.split}
    if args.shadow is None:
        return route
    if route is None:
        raise InvalidInput("--shadow: expected a policy with it, such as --label stable")
    tolerance = {"absolute": args.max_diff, "relative": args.max_diff}
    return {
        **route,
        "shadow": {"target": args.shadow, "percent": args.copied, "tolerance": tolerance},
    }


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    from pyruntime.routing import route_from_mapping, route_to_mapping

    try:
        mapping = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path}: expected TOML, got an error: {error}") from None
    if set(mapping) == {"route"}:  # with the table's name, as in a model.toml
        mapping = mapping["route"]
    return route_to_mapping(route_from_mapping(mapping, where=str(path)))


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _shares(text: str) -> dict[str, float]:
    shares = {}
    for part in text.split(","):
        target, equals, share = part.partition("=")
        if not equals or not target:
            raise argparse.ArgumentTypeError(
                f"expected TARGET=SHARE, such as stable=99%, got {part!r}"
            )
        shares[target.strip()] = percent(share)
    return shares
