"""Search for the highest rate of arrivals that keeps a promise about latency."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pyruntime.errors import InvalidInput

__all__ = ["Slo", "find_rate"]

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_FORM = re.compile(r"(p50|p90|p99|p999|max|mean)=([0-9]*\.?[0-9]+)(us|ms|s)")


@dataclass(frozen=True, slots=True)
class Slo:
    """A promise: this figure of the latency is at most so much.

    figure: of pyruntime.bench.summary.FIGURES, such as "p99_us".
    """

    figure: str
    limit_us: float
    text: str

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """As p99=10ms. Raises InvalidInput."""
        found = _FORM.fullmatch(text)
        if found is None or not float(found[2]) > 0:
            raise InvalidInput(
                f"slo: expected FIGURE=TIME such as p99=10ms (p50, p90, p99, p999, max or mean; "
                f"us, ms or s), got {text!r}"
            )
        return cls(f"{found[1]}_us", float(found[2]) * _UNITS_US[found[3]], text)


def find_rate(
    keeps: Callable[[float], bool],
    *,
    guess: float,
    within: float = 0.03,
    most_tries: int = 16,
) -> float | None:
    """The highest rate that `keeps` the promise, to `within` of it; None: none does.

    keeps: measures at a rate. guess: where to begin.
    """
    low, high = 0.0, float("inf")
    rate = guess
    for _ in range(most_tries):
        if keeps(rate):
            low = rate
            rate = 1.5 * low if high == float("inf") else (low + high) / 2
        else:
            high = rate
            # Far above what it can do, nothing near may hold: go down fast.
            rate = high / 2 if low == 0 else (low + high) / 2
        if low > 0 and high <= (1 + within) * low:
            break
    return low or None
