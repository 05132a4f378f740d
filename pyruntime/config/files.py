"""Configuration in TOML files."""

import os
from collections.abc import Mapping
from typing import Any

from pyruntime.config.checks import make
from pyruntime.config.model import Memory, ModelConfig, Versions, WarmUp
from pyruntime.config.options import ModelOptions
from pyruntime.errors import InvalidInput
from pyruntime.routing import route_from_mapping

__all__ = ["read_model_config", "read_model_options", "read_secret"]

# Tables of a model.toml that say something of the model, not of how it is loaded.
_TABLES = ("versions", "warm_up", "labels", "route", "memory")


def read_model_options(path: str | os.PathLike[str]) -> ModelOptions:
    """Read the keys of a `model.toml` that are fields of ModelOptions.

    Raises InvalidInput that names the file and the key.
    """
    return read_model_config(path).options


def read_model_config(path: str | os.PathLike[str]) -> ModelConfig:
    """Read a `model.toml`: the fields of ModelOptions, and the tables of ModelConfig.

    Raises InvalidInput that names the file and the key.
    """
    return model_config_from_mapping(_read_toml(path), where=os.fspath(path))


def model_config_from_mapping(values: Mapping[str, Any], *, where: str) -> ModelConfig:
    """Read what a `model.toml` holds. where: named in errors."""
    tables = {name: values[name] for name in _TABLES if name in values}
    options = {name: value for name, value in values.items() if name not in _TABLES}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise InvalidInput(f"{where}: {name}: expected a table, got {table!r}")
    config: dict[str, Any] = {}
    for name, cls in (("versions", Versions), ("warm_up", WarmUp), ("memory", Memory)):
        if name in tables:
            config[name] = make(cls, tables[name], f"{where}: {name}")
    config["options"] = ModelOptions.from_mapping(options, where=where, others=_TABLES)
    if "labels" in tables:
        config["labels"] = tables["labels"]
    if "route" in tables:
        config["route"] = route_from_mapping(tables["route"], where=f"{where}: route")
    return make(ModelConfig, config, where)


def read_secret(path: str | os.PathLike[str]) -> str:
    """Read a file that holds one word. Raises InvalidInput that names the file, not the word."""
    from pathlib import Path

    where = os.fspath(path)
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: expected ASCII") from None
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from None
    if not secret or not secret.isprintable() or " " in secret:
        raise InvalidInput(f"{where}: expected one word of printable characters")
    return secret


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    import tomllib
    from pathlib import Path

    where = os.fspath(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{where}: expected TOML, got an error: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from None
