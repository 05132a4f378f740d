"""Values of options that several measurements have."""

from __future__ import annotations

import argparse

__all__ = ["dim", "numbers"]


def numbers(text: str) -> tuple[int, ...]:
    """As 1,8,32."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers as 1,8,32, got {text!r}") from None


def dim(text: str) -> tuple[str, int]:
    """As NAME=SIZE."""
    name, _, size = text.rpartition("=")
    if not name or not size.isascii() or not size.isdigit():
        raise argparse.ArgumentTypeError(f"expected NAME=SIZE, got {text!r}")
    return name, int(size)
