"""Values of options that several measurements have."""

from __future__ import annotations

import argparse

__all__ = ["dim", "numbers", "rates", "words"]


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


def rates(text: str) -> tuple[float, ...]:
    """As 100,250.5."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers as 100,250, got {text!r}") from None


def words(text: str) -> tuple[str, ...]:
    """As cpu,cuda:0."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"expected words with commas in between, got {text!r}")
    return parts
