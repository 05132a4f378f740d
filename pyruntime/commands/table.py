"""Tables and paragraphs for terminals."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 100


def wrap(text: str, *, indent: str = "  ") -> str:
    """Break it into lines of `WIDTH`, all but the first indented; what is long stays whole."""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def table(
    rows: Iterable[Sequence[str]], *, header: Sequence[str], right: Iterable[int] = ()
) -> str:
    """Align columns; the last one runs free. right: columns that are aligned to the right."""
    lines = [tuple(header), *map(tuple, rows)]
    to_right = set(right)
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    out = []
    for line in lines:
        cells = [
            cell.rjust(width) if column in to_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)
