"""Small grey images as text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

WHITE = 16  # brightest grey value

# Of xterm's 256 colours, black to white.
_GREYS = (16, *range(232, 256), 231)


def wants_colour(stream: TextIO = sys.stdout) -> bool:
    """Whether `stream` is a terminal, which shows colours."""
    return stream.isatty()


def draw_row(
    images: Sequence[np.ndarray[Any, Any]], *, gap: int, colour: bool, plain: bool = False
) -> list[str]:
    """Draw images [8, 8] side by side: 8 columns and 4 lines each, two pixels a character.

    colour: shades of grey, else black and white. plain: ASCII only.
    """
    lines = []
    for row in range(0, 8, 2):
        parts = []
        for image in images:
            pairs = zip(image[row], image[row + 1], strict=True)
            draw = _grey if colour else _ascii if plain else _half
            parts.append("".join(draw(upper, lower) for upper, lower in pairs))
            if colour:
                parts[-1] += "\x1b[0m"
        lines.append((" " * gap).join(parts))
    return lines


def _grey(upper: float, lower: float) -> str:
    return f"\x1b[38;5;{_shade(upper)};48;5;{_shade(lower)}m▀"


def _shade(value: float) -> int:
    grey: int = _GREYS[round(float(value) / WHITE * (len(_GREYS) - 1))]
    return grey


def _half(upper: float, lower: float) -> str:
    return " ▄▀█"[2 * (upper > WHITE / 2) + (lower > WHITE / 2)]


def _ascii(upper: float, lower: float) -> str:
    return " .'#"[2 * (upper > WHITE / 2) + (lower > WHITE / 2)]
