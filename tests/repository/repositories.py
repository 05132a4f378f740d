"""Repositories for tests."""

from __future__ import annotations

import shutil
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
IDENTITY = MODELS / "identity_f32.onnx"


def add(repository: Path, model: str, version: str | int = "1", source: Path = IDENTITY) -> Path:
    """Add a version, and give its file."""
    folder = repository / model / str(version)
    folder.mkdir(parents=True)
    return Path(shutil.copy(source, folder / "model.onnx"))
