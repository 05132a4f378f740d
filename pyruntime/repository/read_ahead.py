"""Brings files into the system's cache in pieces, so that reading them can be paced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["read_ahead"]

PIECE_BYTES = 8 << 20


def read_ahead(files: Iterable[Path], between: Callable[[], None]) -> None:
    """Read files and forget what they hold. between: called before each piece.

    What cannot be read is left to whoever needs it.
    """
    buffer = bytearray(PIECE_BYTES)
    for path in files:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            while True:
                between()
                if os.readv(file, [buffer]) <= 0:
                    break
        except OSError:
            continue
        finally:
            os.close(file)
