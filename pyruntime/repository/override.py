"""What a load call gives in place of the repository's files."""

from __future__ import annotations

import itertools
import shutil
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from pyruntime.errors import InvalidInput
from pyruntime.repository.scan import FoundModel, scan_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyruntime.config.model import ModelConfig

__all__ = ["Override", "make_override"]

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Override:
    """Stands for a model's folder, or for its configuration alone.

    files: holds the model's folder, and is removed when this is forgotten; None: the repository.
    """

    name: str
    config: ModelConfig
    files: Path | None = None
    number: int = field(default_factory=lambda: next(_numbers))

    def look(self, root: Path, defaults: ModelConfig) -> FoundModel | None:
        """See what there is to be loaded. root: of the repository."""
        if self.files is not None:
            root = self.files
        found = scan_model(root, self.name, defaults, given=self.config)
        if found is None:
            return None
        return replace(found, stamp=(*found.stamp, ("override", self.number, 0, 0)))


def make_override(
    root: Path,
    name: str,
    config: str | None,
    files: Mapping[str, bytes],
    defaults: ModelConfig,
) -> Override | None:
    """Check and keep what was given; None if that is nothing.

    files: by their paths in the model's folder, "1/model.onnx". Raises InvalidInput.
    """
    from pyruntime.config.given import model_config_from_text

    if config is None and not files:
        return None
    if config is None:
        raise InvalidInput(f"model '{name}': files: expected a configuration with them, got none")
    if not files:
        folder = root / name
        return Override(name, model_config_from_text(config, defaults, folder, where="config"))
    kept = Path(mkdtemp(prefix="pyruntime-")).resolve()
    try:
        for path, data in files.items():
            _write(kept / name, path, data)
        given = model_config_from_text(config, defaults, kept / name, where="config")
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    override = Override(name, given, kept)
    weakref.finalize(override, shutil.rmtree, kept, ignore_errors=True)
    return override


def _write(folder: Path, path: str, data: bytes) -> None:
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or ".." in parts or path.startswith("/"):
        raise InvalidInput(f"file: expected VERSION/FILE, got {path!r}")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
