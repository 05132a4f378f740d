"""Conditions under which a comparison fails, such as "p99 > 1.1x"; docs/benchmarking.md.

condition = figure, (">" | "<"), limit, ["where", field "=" value, {"," field "=" value}]
limit = number "x" | ("+" | "-") number "%" | number ["us" | "ms" | "s" | "/s"]
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pyruntime.errors import InvalidInput

__all__ = ["Condition", "parse_condition", "resolve_figure"]

_NUMBER = r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+"
_GRAMMAR = re.compile(
    rf"\s*(?P<figure>[A-Za-z]\w*(?:\.\d)?)\s*(?P<operator>[<>])\s*"
    rf"(?:(?P<factor>{_NUMBER})\s*x|(?P<percent>[-+](?:{_NUMBER}))\s*%"
    rf"|(?P<amount>{_NUMBER})\s*(?P<unit>us|ms|s|/s)?)"
    r"(?:\s+where\s+(?P<where>\S.*?))?\s*"
)
_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_EXAMPLES = "'p99 > 1.1x', 'requests_per_s < -5%', 'p99 > 12ms where concurrency=8'"
_ALIASES = {"p99.9": "p999_us", "throughput": "requests_per_s", "errors": "errors_share"}


@dataclass(frozen=True, slots=True)
class Condition:
    """Fails where the figure is beyond the limit.

    limit: of the ratio to the baseline if `is_ratio`, else of the figure in its own unit.
    where: fields of the configurations that it is about, all if empty.
    """

    text: str
    figure: str
    is_above: bool
    limit: float
    is_ratio: bool
    where: Mapping[str, str]

    def concerns(self, configuration: Mapping[str, Any]) -> bool:
        """Whether a configuration is one of those."""
        return all(str(configuration.get(name)) == value for name, value in self.where.items())


def parse_condition(text: str, figures: Collection[str]) -> Condition:
    """Read one; figures: those there are. Raises InvalidInput that says what was expected."""
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"fail-if {text!r}: expected FIGURE > LIMIT or FIGURE < LIMIT, such as {_EXAMPLES}"
        )
    figure = resolve_figure(found["figure"], figures, f"fail-if {text!r}")
    is_above = found["operator"] == ">"
    where = _parse_where(text, found["where"])
    if found["amount"]:
        limit = _amount(text, figure, float(found["amount"]), found["unit"])
        return Condition(text.strip(), figure, is_above, limit, False, where)
    limit = float(found["factor"]) if found["factor"] else 1 + float(found["percent"]) / 100
    if limit <= 0:
        raise InvalidInput(f"fail-if {text!r}: expected a ratio above 0, got {limit:g}")
    if figure == "errors_share":
        raise InvalidInput(
            f"fail-if {text!r}: expected an amount, such as 'errors > 0.01', since the share of "
            "errors can be 0 and has no ratio"
        )
    return Condition(text.strip(), figure, is_above, limit, True, where)


def resolve_figure(name: str, figures: Collection[str], where: str) -> str:
    """The figure that `name` means: itself, without its unit, or by another name."""
    for candidate in (name, f"{name}_us", _ALIASES.get(name, name)):
        if candidate in figures:
            return candidate
    known = ", ".join(sorted(figures)) or "none"
    raise InvalidInput(f"{where}: expected a figure among {known}, got {name!r}")


def _amount(text: str, figure: str, amount: float, unit: str | None) -> float:
    takes = "us" if figure.endswith(("_us", "us_per_request")) else "/s"
    if takes == "us" and unit in _UNITS_US:
        return amount * _UNITS_US[unit]
    if takes == "us" or (unit is not None and not (unit == "/s" and figure.endswith("_per_s"))):
        expected = "us, ms or s" if takes == "us" else "no unit" + " or /s" * figure.endswith("_s")
        raise InvalidInput(
            f"fail-if {text!r}: expected {expected} after the amount of {figure}, or x for a "
            f"ratio, got {unit or 'nothing'}"
        )
    return amount


def _parse_where(text: str, where: str | None) -> dict[str, str]:
    fields = {}
    for item in where.split(",") if where else ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise InvalidInput(f"fail-if {text!r}: expected FIELD=VALUE after where, got {item!r}")
        fields[name.strip()] = value.strip()
    return fields
