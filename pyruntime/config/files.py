"""Options in files."""

import os

from pyruntime.config.options import ModelOptions
from pyruntime.errors import InvalidInput

__all__ = ["read_model_options"]


def read_model_options(path: str | os.PathLike[str]) -> ModelOptions:
    """Read a `model.toml`, whose keys are the fields of ModelOptions.

    Raises InvalidInput that names the file and the key.
    """
    import tomllib
    from pathlib import Path

    where = os.fspath(path)
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{where}: expected TOML, got an error: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from None
    return ModelOptions.from_mapping(values, where=where)
