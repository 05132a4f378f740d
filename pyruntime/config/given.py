"""A model's configuration as a text that somebody gave, in any of the formats of the files."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from pyruntime.config.files import model_config_from_mapping
from pyruntime.config.triton import triton_config_from_json, triton_config_from_text
from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from pyruntime.config.model import ModelConfig

__all__ = ["model_config_from_text"]


def model_config_from_text(
    text: str, defaults: ModelConfig, folder: Path, *, where: str
) -> ModelConfig:
    """Read JSON or text of Triton's ModelConfig, or a model.toml.

    folder: the model's. where: named in errors. Raises InvalidInput.
    """
    if text.lstrip().startswith("{"):
        return triton_config_from_json(text, defaults, folder, where=where)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        first = next((line for line in text.splitlines() if line.strip()), "")
        if "=" in first or first.lstrip().startswith("["):
            raise InvalidInput(f"{where}: expected TOML, got an error: {error}") from None
        return triton_config_from_text(text, defaults, folder, where=where)
    return model_config_from_mapping(values, where=where)
