"""Student's t distribution, which neither Python nor NumPy has."""

import math
from statistics import NormalDist

__all__ = ["quantile", "upper_tail"]

_NORMAL_DF = 1e7  # from here on it is the normal distribution
_STEPS = 300
_PRECISION = 1e-14


def upper_tail(t: float, df: float) -> float:
    """Probability of more than `t`, with `df` degrees of freedom, which need not be whole."""
    if df > _NORMAL_DF:
        return 0.5 * math.erfc(t / math.sqrt(2))
    tail = 0.5 * _incomplete_beta(df / 2, 0.5, df / (df + t * t))
    return tail if t >= 0 else 1 - tail


def quantile(tail: float, df: float) -> float:
    """What is exceeded with the probability `tail`, at most one half."""
    if df > _NORMAL_DF:
        return -NormalDist().inv_cdf(tail)
    low, high = 0.0, 2.0
    while upper_tail(high, df) > tail:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, df) > tail else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    # Lentz's method, as modified by Thompson and Barnett (1986).
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            fraction *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return math.exp(log_front) * fraction / a
