"""Values of command-line arguments."""

from __future__ import annotations

import argparse
import re
from typing import Literal


def rows(text: str) -> int | Literal["auto"]:
    """Read a number of rows, or "auto"."""
    return "auto" if text == "auto" else positive(text)


def count(text: str) -> int:
    """Read a whole number."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if (value := count(text)) < 1:
        raise argparse.ArgumentTypeError("expected at least 1, got 0")
    return value


def seconds(text: str) -> float:
    """Read a duration."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return value


_DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Read a duration with its unit, such as 30s, 5m or 1h; seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip(), re.A)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a duration such as 30s or 5m, got {text!r}")
    return float(found[1]) * _DURATIONS[found[2]]


def percent(text: str) -> float:
    """Read a share such as 1% or 0.1%; percent."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip(), re.A)
    if found is None or float(found[1]) > 100:
        raise argparse.ArgumentTypeError(f"expected a share such as 1% or 0.1%, got {text!r}")
    return float(found[1])


def percents(text: str) -> tuple[float, ...]:
    """Read several shares, separated by commas."""
    return tuple(percent(part) for part in text.split(","))


def ratio(text: str) -> float:
    """Read a multiple such as 1.2x."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text.strip(), re.A)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a multiple such as 1.2x, got {text!r}")
    return float(found[1])


def number(text: str) -> float:
    """Read a number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return value


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_bytes(text: str) -> int:
    """Read a size in bytes, such as 512MiB or 2G."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.A)
    value = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 512MiB or 2GiB, got {text!r}")
    return value
