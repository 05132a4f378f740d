"""`pyruntime devices`: what models can run on here."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from pyruntime.commands.table import table

if TYPE_CHECKING:
    import argparse
    from argparse import Namespace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "devices",
        help="list device backends, engines and execution providers",
        description="Lists device backends, engines and execution providers, "
        "and why one is absent.",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print the list."""
    from pyruntime.devices import devices

    listed = devices()
    if args.json:
        print(json.dumps([dataclasses.asdict(device) for device in listed], indent=2))
        return 0
    rows = []
    for device in listed:
        state = "present" if device.is_present else "absent"
        note = device.why_absent or device.version
        if device.is_present and device.kind == "backend":
            note = f"{device.count} device{'s' if device.count != 1 else ''}"
            known = [
                f"{device.name}:{index} {what}" for index, what in enumerate(device.devices) if what
            ]
            note = ": ".join([note, "; ".join(known)] if known else [note])
        if device.is_present and device.kind == "provider":
            note = f"of {device.engine}"
        if device.warning:
            note = f"{note}; warning: {device.warning}"
        rows.append((device.kind, device.name, state, note))
    print(table(rows, header=("KIND", "NAME", "STATE", "")))
    return 0
