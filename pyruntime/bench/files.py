"""Results as files: one JSON document each, see pyruntime.bench.results."""

import contextlib
import dataclasses
import json
import math
import os
import tempfile
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyruntime.bench.results import SCHEMA, Results
from pyruntime.errors import InvalidInput

__all__ = ["from_json", "read_results", "write_results"]


def write_results(results: Results, path: str | os.PathLike[str]) -> None:
    """Write the file, or leave what was there as it was: no reader sees half of one."""
    target = Path(path)
    text = json.dumps(results.to_json(), allow_nan=False, separators=(",", ":"))
    if target.exists() and not target.is_file():  # a pipe or /dev/stdout
        target.write_text(text + "\n", encoding="utf-8")
        return
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        Path(name).chmod(_mode(target))
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _mode(target: Path) -> int:
    """Of the file that is replaced, or of any new one."""
    with contextlib.suppress(OSError):
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read a file that `bench run` wrote.

    Raises InvalidInput that names the file, the place in it, what was expected and what came.
    """
    where = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: expected results of `bench run`, got no text") from None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{where}: expected JSON, got an error: {error}") from None
    return from_json(value, where=where)


def from_json(value: Any, *, where: str = "results") -> Results:
    """Make results of what Results.to_json() made. Raises InvalidInput; where: named in it."""
    if not isinstance(value, dict):
        raise _mismatch(where, f"results of `bench run` ({SCHEMA})", value)
    if "schema" not in value:
        keys = ", ".join(map(repr, list(value)[:5])) or "nothing"
        raise InvalidInput(f"{where}: expected a key 'schema' ({SCHEMA!r}), got {keys}")
    if value["schema"] != SCHEMA:
        raise InvalidInput(f"{where}: schema: expected {SCHEMA!r}, got {value['schema']!r}")
    results = _read(Results, value, where)
    assert isinstance(results, Results)
    return results


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`, which is one of those that the dataclasses of results have."""
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(arguments, value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is Mapping:
        return _read_mapping(arguments, value, where)
    if not _fits(kind, value):
        raise _mismatch(where, _NAMES[kind], value)
    return float(value) if kind is float else value


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(where, "an object", value)
    known = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            place = f"{where}: {field.name}" if kind is Results else f"{where}.{field.name}"
            values[field.name] = _read(known[field.name], value[field.name], place)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise InvalidInput(f"{where}: expected a key {field.name!r}, got none")
    # Other keys are of a later version that means the same by these.
    return kind(**values)


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1:
        return _read(others[0], value, where)
    for kind in others:
        if _fits(kind, value):
            return value
    raise _mismatch(where, " or ".join(_NAMES[kind] for kind in others), value)


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _mismatch(where, "a list", value)
    if kinds[-1] is not Ellipsis and len(kinds) != len(value):
        raise _mismatch(where, f"{len(kinds)} items", value)
    each = [kinds[0]] * len(value) if kinds[-1] is Ellipsis else kinds
    return tuple(
        _read(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(each, value, strict=True))
    )


def _read_mapping(kinds: tuple[Any, ...], value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _mismatch(where, "an object", value)
    key_kind, item_kind = kinds
    items = {}
    for key, item in value.items():
        if key_kind is int:  # JSON has only texts there
            if not key.removeprefix("-").isdecimal():
                raise _mismatch(where, "integers as keys", key)
            items[int(key)] = _read(item_kind, item, f"{where}[{key}]")
        else:
            items[key] = _read(item_kind, item, f"{where}[{key!r}]")
    return items


_NAMES = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def _fits(kind: Any, value: Any) -> bool:
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _mismatch(where: str, expected: str, got: Any) -> InvalidInput:
    return InvalidInput(f"{where}: expected {expected}, got {_kind(got)}")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return json.dumps(value)[:60]
