"""Changes keys of a model.toml and leaves the rest as its author wrote it."""

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyruntime.bench.choices import COUNT
from pyruntime.config import ModelOptions
from pyruntime.errors import InvalidInput, Unavailable

__all__ = ["changed_toml", "toml_beside", "write_toml"]


def toml_beside(model: Path) -> Path:
    """REPOSITORY/<model>/model.toml of REPOSITORY/<model>/<version>/model.onnx, else beside it."""
    folder = model.resolve().parent
    path = (folder.parent if folder.name.isdigit() else folder) / "model.toml"
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def changed_toml(text: str, changes: Mapping[str, Any], options: ModelOptions) -> str:
    """The text with `changes` made, by which it comes to mean `options`.

    Raises Unavailable without tomlkit, InvalidInput where the text does not come to mean that.
    """
    try:
        import tomlkit
    except ImportError as error:
        raise Unavailable(f"tomlkit is absent ({error}): pip install 'pyruntime[bench]'") from None
    document: Any = tomlkit.parse(text)
    for key, value in changes.items():
        if key == COUNT:
            _set_count(document, value, options)
        elif key.startswith("providers."):
            _, name, option = key.split(".", 2)
            _set_provider_option(document, name, option, str(value))
        elif "." in key:
            table, field = key.split(".", 1)
            if table not in document:
                document[table] = tomlkit.table()
            document[table][field] = str(value) if table == "config" else value
        else:
            document[key] = value
    made: str = tomlkit.dumps(document)
    if ModelOptions.from_mapping(tomllib.loads(made)) != options:
        raise InvalidInput(
            "model.toml: these changes do not give the options that were measured: "
            + ", ".join(f"{key} = {value}" for key, value in changes.items())
        )
    return made


def _set_count(document: Any, count: int, options: ModelOptions) -> None:
    import tomlkit

    if "instances" not in document:
        document["instances"] = tomlkit.aot()
        for group in options.instances:
            table = tomlkit.table()
            if group.device != "cpu":
                table["device"] = group.device
            document["instances"].append(table)
    for table in document["instances"]:
        table["count"] = count


def _set_provider_option(document: Any, name: str, option: str, value: str) -> None:
    import tomlkit

    if "providers" not in document:
        document["providers"] = tomlkit.aot()
    tables = [table for table in document["providers"] if table.get("name") == name]
    if not tables:
        table = tomlkit.table()
        table["name"] = name
        document["providers"].append(table)
        tables = [document["providers"][-1]]
    for table in tables:
        if "options" not in table:
            table["options"] = tomlkit.inline_table()
        table["options"][option] = value


def write_toml(path: Path, text: str) -> None:
    """Put the text in the place of the file's, or leave that as it was."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".model.toml.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
