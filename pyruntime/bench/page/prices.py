"""What a million requests cost on hardware that is paid by the hour."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyruntime.bench.page.lines import Line
from pyruntime.bench.results import Measurement
from pyruntime.errors import InvalidInput

__all__ = ["Cost", "Price", "costs", "parse_price"]

_GRAMMAR = re.compile(
    r"(?P<name>.+)=(?P<before>[^-+\d\s.=]{0,4})\s*(?P<amount>\d+(?:\.\d+)?|\.\d+)"
    r"\s*(?P<after>[^\d\s/]{0,4})\s*/\s*h"
)


@dataclass(frozen=True, slots=True)
class Price:
    """Of an hour; currency: "" where none was said."""

    name: str
    per_hour: float
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a million requests, at the measurement that makes them cheapest.

    rows: of each request; the same for all lines that are compared.
    """

    line: Line
    measurement: Measurement
    per_million: float
    price: Price
    rows: int


def parse_price(text: str) -> Price:
    """Read NAME=0.53/h, NAME=$0.53/h or NAME=0.53 EUR/h. Raises InvalidInput."""
    found = _GRAMMAR.fullmatch(text.strip())
    if found is None or (found["before"] and found["after"]) or float(found["amount"]) == 0:
        raise InvalidInput(
            f"price {text!r}: expected NAME=AMOUNT/h, such as a100=3.67/h or 'cuda:0=$3.67/h'"
        )
    return Price(found["name"], float(found["amount"]), found["before"] or found["after"])


def costs(lines: Sequence[Line], prices: Sequence[Price]) -> list[Cost]:
    """Of each line that has a price. Raises InvalidInput for a price that no line bears."""
    by_name: Mapping[str, Price] = {price.name: price for price in prices}
    known = sorted({name for line in lines for name in line.names})
    for name in by_name:
        if name not in known:
            shown = ", ".join(map(repr, known))
            raise InvalidInput(f"price: expected a name among {shown}, got {name!r}")
    if len(currencies := {price.currency for price in prices}) > 1:
        shown = ", ".join(repr(item) for item in sorted(currencies))
        raise InvalidInput(f"price: expected one currency, got {shown}")
    priced = {}
    for line in lines:
        # A price of the line itself goes before one of its file or device.
        named = sorted(line.names & set(by_name), key=lambda name: (name != line.label, name))
        rates = _fastest_by_rows(line.measurements)
        if named and rates:
            priced[line.label] = (line, by_name[named[0]], rates)
    # A request of many rows is another thing to pay for than one of few.
    common = set.intersection(*(set(rates) for *_, rates in priced.values())) if priced else set()
    return [
        _cost(line, price, rates, min(common or rates)) for line, price, rates in priced.values()
    ]


def _fastest_by_rows(measurements: Sequence[Measurement]) -> dict[int, Measurement]:
    fastest: dict[int, Measurement] = {}
    for one in measurements:
        rate, rows = one.figures.get("requests_per_s", 0), one.configuration.rows
        if rate > 0 and (rows not in fastest or rate > fastest[rows].figures["requests_per_s"]):
            fastest[rows] = one
    return fastest


def _cost(line: Line, price: Price, rates: Mapping[int, Measurement], rows: int) -> Cost:
    hour = 3600 * rates[rows].figures["requests_per_s"]
    return Cost(line, rates[rows], 1e6 * price.per_hour / hour, price, rows)
