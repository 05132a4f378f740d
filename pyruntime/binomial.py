"""Whether chance explains so many of so many."""

from __future__ import annotations

import math

__all__ = ["tail_of_binomial"]


def tail_of_binomial(least: int, n: int, p: float) -> float:
    """Probability of at least so many successes among n, each of probability p."""
    mean, variance = n * p, n * p * (1 - p)
    if mean > 600:  # where the normal distribution is close, and (1 - p)**n is next to nothing
        return 0.5 * math.erfc((least - 0.5 - mean) / math.sqrt(2 * variance))
    term = (1 - p) ** n
    below = 0.0
    for i in range(least):
        below += term
        term *= (n - i) / (i + 1) * p / (1 - p)
    return max(0.0, 1.0 - below)
