"""What several measurements have in common: values of options, and where figures go."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "add_dim",
    "add_json",
    "add_options",
    "add_rows",
    "add_seed",
    "check_json",
    "dim",
    "numbers",
    "rates",
    "show",
    "words",
]


# Of a parser or a group of it.
Arguments = argparse._ActionsContainer


def add_rows(arguments: Arguments) -> None:
    """Add --rows."""
    arguments.add_argument(
        "--rows", metavar="N", type=int, default=1, help="of each request. Default: %(default)s"
    )


def add_dim(arguments: Arguments, *, default: int | None = None) -> None:
    """Add --dim. default: what is taken where none is given; None: it must be."""
    said = "" if default is None else f". Default: {default}"
    arguments.add_argument(
        "--dim",
        metavar="NAME=SIZE",
        type=dim,
        action="append",
        default=[],
        help="size of a dynamic dimension other than the rows, by its symbol or as INPUT.AXIS; "
        f"may be given again{said}",
    )


def add_seed(arguments: Arguments, *, of: str = "of the random inputs") -> None:
    """Add --seed."""
    arguments.add_argument("--seed", metavar="N", type=int, default=0, help=of)


def add_options(arguments: Arguments, *, also: str = "") -> None:
    """Add --options."""
    arguments.add_argument(
        "--options",
        metavar="FILE",
        type=Path,
        help=f"a model.toml with fields of pyruntime.ModelOptions{also}",
    )


def add_json(arguments: Arguments) -> None:
    """Add --json, for show()."""
    arguments.add_argument("--json", metavar="FILE", help="write the figures there; -: print them")


def numbers(text: str) -> tuple[int, ...]:
    """As 1,8,32."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers as 1,8,32, got {text!r}") from None


def dim(text: str) -> tuple[str, int]:
    """As NAME=SIZE."""
    name, _, size = text.rpartition("=")
    if not name or not size.isascii() or not size.isdigit():
        raise argparse.ArgumentTypeError(f"expected NAME=SIZE, got {text!r}")
    return name, int(size)


def rates(text: str) -> tuple[float, ...]:
    """As 100,250.5."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers as 100,250, got {text!r}") from None


def words(text: str) -> tuple[str, ...]:
    """As cpu,cuda:0."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"expected words with commas in between, got {text!r}")
    return parts


def check_json(file: str | None) -> None:
    """Say what is wrong with `--json FILE` before time is spent. Raises InvalidInput."""
    if file is not None and file != "-" and not Path(file).parent.is_dir():
        raise InvalidInput(f"--json {file}: expected a file in a folder that exists")


def show(figures: dict[str, Any], file: str | None, text: Callable[[], str]) -> None:
    """Print `text`, and write the figures to `--json FILE`; "-": print them alone."""
    as_json = json.dumps(figures, indent=2)
    if file == "-":
        print(as_json)
        return
    print(text())
    if file:
        Path(file).write_text(as_json + "\n", encoding="utf-8")
