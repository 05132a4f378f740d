"""Checks of a dataclass's fields; each raises InvalidInput."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from pyruntime.errors import InvalidInput

_T = TypeVar("_T")


def mismatch(owner: object, name: str, expected: str) -> InvalidInput:
    """Name class, field, expected and got."""
    got = getattr(owner, name)
    return InvalidInput(f"{type(owner).__name__}.{name}: expected {expected}, got {got!r}")


def check_integer(owner: object, name: str, *, least: int, most: int = 2**53) -> None:
    """Refuse what is no int of that range."""
    value = getattr(owner, name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        is_above = isinstance(value, int) and value > most
        bound = f"at most {most}" if is_above else f"at least {least}"
        raise mismatch(owner, name, f"an int of {bound}")


def check_seconds(owner: object, name: str) -> None:
    """Refuse what is no duration."""
    value = getattr(owner, name)
    # Up to a century, which 64 bits of nanoseconds hold.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 3.2e9:
        raise mismatch(owner, name, "seconds of at least 0")


def check_text(owner: object, name: str) -> None:
    """Refuse what is no text, or empty."""
    value = getattr(owner, name)
    if not isinstance(value, str) or not value:
        raise mismatch(owner, name, "a text that is not empty")


def check_type(owner: object, name: str, expected: type) -> None:
    """Refuse what is of another type."""
    if not isinstance(getattr(owner, name), expected):
        raise mismatch(owner, name, f"a {expected.__name__}")


def check_items(owner: object, name: str, expected: type) -> None:
    """Refuse all but a sequence of `expected`; make it a tuple."""
    value = getattr(owner, name)
    if not isinstance(value, list | tuple) or not all(isinstance(i, expected) for i in value):
        raise mismatch(owner, name, f"a tuple of {expected.__name__}")
    object.__setattr__(owner, name, tuple(value))


def check_texts_by_name(owner: object, name: str) -> None:
    """Refuse all but a mapping of texts to texts; make it a dict."""
    value = getattr(owner, name)
    if not isinstance(value, Mapping) or not all(
        isinstance(text, str) for item in value.items() for text in item
    ):
        raise mismatch(owner, name, "a mapping of str to str")
    object.__setattr__(owner, name, dict(value))


def check_numbers_by_name(owner: object, name: str) -> None:
    """Refuse all but a mapping of texts to numbers; make it a dict."""
    value = getattr(owner, name)
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and is_number(number) for key, number in value.items()
    ):
        raise mismatch(owner, name, "a mapping of str to numbers")
    object.__setattr__(owner, name, dict(value))


def is_number(value: object) -> bool:
    """Whether it is an int or a float."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_integers(owner: object, name: str, *, least: int, also: str = "") -> None:
    """Refuse all but a sequence of ints; make it a tuple. also: what else is allowed."""
    value = getattr(owner, name)
    if not are_integers(value, least=least):
        raise mismatch(owner, name, f"a list of ints of at least {least} {also}".rstrip())
    object.__setattr__(owner, name, tuple(value))


def are_integers(value: object, *, least: int) -> bool:
    """Whether it is a sequence of ints."""
    return isinstance(value, list | tuple) and all(
        isinstance(item, int) and not isinstance(item, bool) and least <= item < 2**53
        for item in value
    )


def check_texts(owner: object, name: str) -> None:
    """Refuse all but a sequence of texts; make it a tuple."""
    value = getattr(owner, name)
    if not isinstance(value, list | tuple) or not all(isinstance(i, str) and i for i in value):
        raise mismatch(owner, name, "a list of texts that are not empty")
    object.__setattr__(owner, name, tuple(value))


def make(cls: type[_T], values: object, where: str, *, others: Sequence[str] = ()) -> _T:
    """Build a dataclass from a table. Raises InvalidInput that names `where` and the key.

    others: keys that the file may have beside the dataclass's, for the message.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{where}: expected a table, got {values!r}")
    known = [item.name for item in dataclasses.fields(cast("Any", cls))]
    unknown = [name for name in values if name not in known]
    if unknown:
        expected = ", ".join(map(repr, [*known, *others]))
        raise InvalidInput(f"{where}: expected keys among {expected}, got {unknown[0]!r}")
    try:
        return cls(**values)
    except (InvalidInput, TypeError) as error:
        raise InvalidInput(f"{where}: {error}") from None


def make_items(values: dict[str, Any], name: str, item_type: type[Any], where: str) -> None:
    """Build what `name` lists, if it is there."""
    if name not in values:
        return
    items = values[name]
    if not isinstance(items, list | tuple):
        kind = type(items).__name__
        raise InvalidInput(f"{where}: {name}: expected a list of tables, got {kind}")
    values[name] = tuple(
        make(item_type, item, f"{where}: {name}[{i}]") for i, item in enumerate(items)
    )
