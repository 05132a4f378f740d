"""A parity check as text for a terminal."""

from typing import Any

from pyruntime.bench.deviations import Deviation, Worst
from pyruntime.bench.parity_checking import Parity
from pyruntime.commands.table import table, wrap

__all__ = ["parity_text"]


def parity_text(found: Parity) -> str:
    """Lay it out: the reference, how far each variant is from it, where worst, what was skipped."""
    rows = "row" if found.rows == 1 else "rows"
    parts = [
        f"model      {found.model}\n"
        f"reference  {found.reference}\n"
        f"inputs     {found.samples} samples of {found.rows} {rows}, {found.inputs}"
    ]
    lines = [f"! {text}" for text in found.warnings]
    lines += [
        # A device's reason begins with its name.
        f"! skipped: {item.name}: {item.reason.removeprefix(_named(item.name))}"
        for item in found.skipped
    ]
    if lines:
        parts.append("\n".join(map(wrap, lines)))
    figures: list[tuple[str, ...]] = []
    worst: list[tuple[str, ...]] = []
    for variant in found.compared:
        for item in variant.deviations:
            figures.append((variant.name, item.output, *_figures(item)))
            if item.worst is not None:
                worst.append((variant.name, *_where(item.output, item.worst)))
    if figures:
        header = ("", "OUTPUT", "UNEQUAL", "ABS P50", "P99", "MAX", "REL P99", "MAX", "ULP P99")
        parts.append(table(figures, header=(*header, "MAX", ""), right=range(2, 10)))
    if worst:
        titles = ("WORST", "ELEMENT", "", "REFERENCE", "HERE")
        parts.append(table(worst, header=titles, right=(3, 4)))
    parts.append(_in_short(found))
    return "\n\n".join(parts)


def _named(variant: str) -> str:
    kind, _, name = variant.partition(" ")
    return f"{kind} '{name}': "


def _figures(item: Deviation) -> tuple[str, ...]:
    if item.problem is not None:
        return ("", *[""] * 7, f"BEYOND: {item.problem}")
    numbers = [
        f"{quantiles[name]:.2g}" if quantiles else ""
        for quantiles, names in (
            (item.absolute, ("p50", "p99", "max")),
            (item.relative, ("p99", "max")),
            (item.ulp, ("p99", "max")),
        )
        for name in names
    ]
    status = "same" if item.unequal == 0 else "close"
    if item.beyond:
        status = f"BEYOND: {item.beyond} of {item.elements}"
    return (f"{100 * item.unequal / max(1, item.elements):.3g} %", *numbers, status)


def _where(output: str, worst: Worst) -> tuple[str, ...]:
    sample, *index = worst.index
    at = f"[{', '.join(map(str, index))}]" if index else ""
    return f"{output}{at}", f"sample {sample}", _value(worst.expected), _value(worst.got)


def _value(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _in_short(found: Parity) -> str:
    beyond = [item.name for item in found.compared if not item.is_close]
    close = [item for item in found.compared if item.is_close]
    same = [item for item in close if all(d.unequal == 0 for d in item.deviations)]
    lines = []
    if beyond:
        lines.append(f"beyond tolerance: {', '.join(beyond)}")
    if not found.compared:
        return f"IN SHORT\nnothing was compared; {len(found.skipped)} skipped"
    lines.append(
        f"{len(close)} of {len(found.compared)} variants agree with the reference, {len(same)} of "
        f"them to the last bit; {len(found.skipped)} skipped"
    )
    return "IN SHORT\n" + "\n".join(lines)
