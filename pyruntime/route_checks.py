"""Checks of what a route is made of; each message names field, expected, got."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from pyruntime.errors import InvalidInput

__all__ = [
    "Target",
    "check_label",
    "check_name",
    "check_text",
    "check_version",
    "check_whole",
    "is_number",
    "make_from",
    "mapping_of_arms",
    "per_mille",
    "target_of",
]

Target: TypeAlias = int | str
"""A version by its number, or the one that a label names."""

MOST_ARMS = 64

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}")


def check_label(label: object) -> None:
    """Raise InvalidInput for what cannot be a label."""
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise InvalidInput(
            f"label: expected a letter or _ and then letters, digits and _ . - only, got {label!r}"
        )


def make_from(cls: type[Any], values: object, where: str) -> Any:
    """Build a dataclass from a table. where: named in errors."""
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{where}: expected a table, got {values!r}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            expected = ", ".join(map(repr, fields)) or "none beside 'policy'"
            raise InvalidInput(f"{where}: expected keys among {expected}, got {name!r}")
    for name, item in fields.items():
        if name not in values and item.default is item.default_factory is dataclasses.MISSING:
            raise InvalidInput(f"{where}: expected the key {name!r}, found none")
    try:
        return cls(**values)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def mapping_of_arms(what: str, value: object, expected: str) -> Mapping[Any, Any]:
    """Give what is a mapping of one arm or more. expected: of what to what."""
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MOST_ARMS:
        raise InvalidInput(f"{what}: expected 1 to {MOST_ARMS} {expected}, got {value!r}")
    return value


def target_of(what: str, value: object) -> Target:
    """Give a version or a label; a version may be written as a text."""
    if isinstance(value, str):
        if value.isascii() and value.isdigit():
            value = int(value)
        else:
            check_label(value)
            return value
    check_version(what, value)
    return cast("int", value)


def check_version(what: str, value: object) -> None:
    """Refuse what is no version."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63:
        raise InvalidInput(f"{what}: expected a version from 1 on or a label, got {value!r}")


def check_name(what: str, value: object) -> None:
    """Refuse what cannot name an experiment or an arm."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInput(f"{what}: expected a name of letters, digits and _ . : -, got {value!r}")


def check_text(what: str, value: object) -> None:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what}: expected a text, got {value!r}")


def is_number(value: object) -> bool:
    """Whether it is an int or a float."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def per_mille(what: str, percent: object) -> int:
    """Give thousandths, of percent in steps of 0.1."""
    if is_number(percent):
        tenths = 10 * cast("float", percent)
        if 0 <= tenths <= 1000 and abs(tenths - round(tenths)) < 1e-6:
            return round(tenths)
    raise InvalidInput(f"{what}: expected percent from 0 to 100 in steps of 0.1, got {percent!r}")


def check_whole(what: str, percents: list[float]) -> None:
    """Refuse shares that are not 100 percent together."""
    if sum(per_mille(what, percent) for percent in percents) != 1000:
        raise InvalidInput(f"{what}: expected 100 percent together, got {sum(percents):g}")
