"""Calls of the service Management, and how their answers are shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyruntime.commands.table import table

if TYPE_CHECKING:
    from pyruntime.client import Client

__all__ = ["call", "print_json", "print_rollout", "print_routing"]


def call(client: Client, name: str, timeout_s: float, **fields: Any) -> Any:
    """Make a call; fields: of its request."""
    from pyruntime.frontends import protocol

    service = protocol.MANAGEMENT
    request = protocol.request_class(name, service)(**fields)
    path, response_class = protocol.path(name, service), protocol.response_class(name, service)
    return client.call(path, request, response_class, timeout_s=timeout_s)


def print_json(message: Any) -> None:
    """Print a message with all its fields; a route in it as what it is, not as text."""
    from google.protobuf import json_format

    shown = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    if "route" in shown:
        shown["route"] = json.loads(shown["route"])
    print(json.dumps(_with_numbers(message, shown), indent=2))


def _with_numbers(message: Any, shown: dict[str, Any]) -> dict[str, Any]:
    """Undo that protobuf's JSON writes 64-bit integers as text."""
    for field in message.DESCRIPTOR.fields:
        value = shown.get(field.name)
        is_integer = field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
        if is_integer and isinstance(value, str):
            shown[field.name] = int(value)
        elif field.name == "labels":
            shown[field.name] = {label: int(version) for label, version in shown["labels"].items()}
        elif isinstance(value, list) and field.message_type is not None:
            for part, one in zip(getattr(message, field.name), value, strict=True):
                _with_numbers(part, one)
        elif isinstance(value, dict) and field.message_type is not None and field.name != "route":
            _with_numbers(getattr(message, field.name), value)
    return shown


def print_routing(routing: Any) -> None:
    """Print labels, the route, and what is counted of it."""
    labels = [f"{label} = {routing.labels[label]}" for label in sorted(routing.labels)]
    print(f"labels:  {', '.join(labels) or 'none'}")
    print(f"route:   {routing.route}")
    if routing.arms:
        header = ("ARM", "TARGET", "REQUESTS", "FAILED", "P50", "P99", "REWARDS", "MEAN REWARD")
        print(table([_arm_row(arm) for arm in routing.arms], header=header, right=range(2, 8)))
    if routing.HasField("shadow"):
        shadow = routing.shadow
        print(
            f"shadow:  {shadow.sampled} requests copied, {shadow.matched} answers matched, "
            f"{shadow.mismatched} did not, {shadow.failed} failed, {shadow.dropped} dropped"
        )
        for output in shadow.outputs:
            print(
                f"         {output.name}: largest difference {output.max_absolute:.3g}, relative "
                f"{output.max_relative:.3g}"
            )
        if shadow.last_problem:
            print(f"         last: {shadow.last_problem}")


def _arm_row(arm: Any) -> tuple[str, ...]:
    mean = f"{arm.reward_sum / arm.rewards:.3f}" if arm.rewards else "-"
    return (
        arm.name,
        arm.target or "latest",
        str(arm.assigned),
        str(arm.failed),
        f"{arm.p50_us:.0f} us",
        f"{arm.p99_us:.0f} us",
        str(arm.rewards),
        mean,
    )


def print_rollout(status: Any) -> None:
    """Print how a rollout stands."""
    what = f"{status.model}: version {status.version}"
    if status.status == "promoted":
        print(f"{what} answers all requests; version {status.stable} answered before")
    elif status.status == "rolled_back":
        print(f"{what} was rolled back ({status.reason}); version {status.stable} answers")
    else:
        step = f"step {status.step + 1} of {len(status.canary)}"
        print(f"{what} gets {status.percent:g} % of the requests, {step}")
        if status.waits_for:
            print(f"waits for {status.waits_for}")
