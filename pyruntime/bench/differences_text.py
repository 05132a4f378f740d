"""A comparison as text for a terminal."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from pyruntime.bench import quantities
from pyruntime.bench.differences import Check, Difference, Differences
from pyruntime.commands.table import table, wrap

__all__ = ["differences_text"]

# From here on "no difference" says little more than that it was not measured well.
_NOISY = 0.25


def differences_text(found: Differences) -> str:
    """Lay it out: what is compared, what to know, the figures, the conditions, in short."""
    common = _common(found)
    parts = [_heading(found, common)]
    if found.warnings:
        parts.append("\n".join(wrap(f"! {text}") for text in found.warnings))
    for _, rows in groupby(found.rows, key=lambda row: id(row.configuration)):
        parts.append(_block(found, list(rows), common))
    if found.unmatched:
        lines = [
            f"only in {' and '.join(item.sides)}: {_describe(item.configuration, common)}"
            for item in found.unmatched
        ]
        parts.append("\n".join(lines))
    if found.checks:
        parts.append(_checks(found.checks, common))
    parts.append(_in_short(found, common))
    return "\n\n".join(parts)


def _common(found: Differences) -> dict[str, Any]:
    """Fields that are the same in all configurations, and are therefore said once."""
    first, *others = [
        *(row.configuration for row in found.rows),
        *(item.configuration for item in found.unmatched),
    ] or [{}]
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _heading(found: Differences, common: Mapping[str, Any]) -> str:
    lines = []
    for side in found.sides:
        its = [f"{name} {values[side.label]}" for name, values in found.compared.items()]
        runs = f"{len(side.files)} runs" if len(side.files) > 1 else side.files[0]
        role = " (baseline)" if side is found.sides[0] else ""
        lines.append(f"{side.label}{role}: {', '.join([*its, runs])}")
    if common:
        lines.append(f"everywhere: {_describe(common, {})}")
    return "\n".join(lines)


def _block(found: Differences, rows: Sequence[Difference], common: Mapping[str, Any]) -> str:
    header = ["", "SIDE", found.sides[0].label, "THERE", "RATIO", "INTERVAL", ""]
    if len(found.sides) == 2:
        header[3] = found.sides[1].label
    lines: list[list[str]] = []
    for row in rows:
        is_first = not lines or lines[-1][-1] != row.figure
        cells = [
            quantities.label(row.figure) if is_first else "",
            row.side,
            quantities.text(row.figure, row.before),
            quantities.text(row.figure, row.after),
            "" if row.ratio is None else f"{row.ratio:.3f}x",
            "" if row.ci is None else f"{_bound(row.ci[0])} to {_bound(row.ci[1])}",
            _verdict(row),
        ]
        lines.append([*cells, row.figure])
    shown = [0, *range(2, 7)] if len(found.sides) == 2 else range(7)
    text = table(
        [[cells[i] for i in shown] for cells in lines],
        header=[header[i] for i in shown],
        right=[place for place, i in enumerate(shown) if i in (2, 3, 4)],
    )
    title = _describe(rows[0].configuration, common)
    return f"{title}\n{text}" if title else text


def _bound(ratio: float) -> str:
    return f"{ratio:.3f}" if 1e-3 < ratio < 1e3 else f"{ratio:.2g}"


def _is_noisy(row: Difference) -> bool:
    return row.verdict == "no difference" and (row.seen_from or 0.0) > _NOISY


def _verdict(row: Difference) -> str:
    if row.verdict in ("better", "worse"):
        return row.verdict.upper()
    return "no difference seen, noisy" if _is_noisy(row) else row.verdict


def _checks(checks: Sequence[Check], common: Mapping[str, Any]) -> str:
    lines = []
    for check in checks:
        if check.value is None:
            value = "no answer"
        elif check.is_ratio:
            value = f"{check.value:.3f}x"
        else:
            value = quantities.text(check.figure, check.value)
        status = check.status.upper() if check.status == "breached" else check.status
        where = ", ".join(filter(None, (check.side, _describe(check.configuration, common))))
        lines.append((status, check.condition, value, where))
    return table(lines, header=("CONDITION", "FAIL IF", "IS", ""), right=(2,))


def _in_short(found: Differences, common: Mapping[str, Any]) -> str:
    lines = []
    for verdict in ("worse", "better", "higher", "lower"):
        rows = [row for row in found.rows if row.verdict == verdict]
        for side, figure in dict.fromkeys((row.side, row.figure) for row in rows):
            these = [row for row in rows if (row.side, row.figure) == (side, figure)]
            every = [row for row in found.rows if (row.side, row.figure) == (side, figure)]
            prefix = f"{side}: " if len(found.sides) > 2 else ""
            lines.append(f"{prefix}{verdict}: {_largest(figure, these, len(every), common)}")
    same = [row for row in found.rows if row.verdict == "no difference"]
    if same:
        text = f"no difference: {len(same)} of {len(found.rows)} figures"
        if sizes := [row.seen_from for row in same if row.seen_from is not None]:
            text += f"; half of them would have shown a change of {100 * median(sizes):.1f} %"
        if noisy := sum(map(_is_noisy, same)):
            text += f", {noisy} not even one of {100 * _NOISY:.0f} %"
        lines.append(text)
    if unknown := sum(row.verdict == "unknown" for row in found.rows):
        lines.append(
            f"unknown: {unknown} of {len(found.rows)} figures, which were measured once or say no "
            "interval"
        )
    return "IN SHORT\n" + "\n".join(map(wrap, lines or ["nothing to compare"]))


def _largest(figure: str, rows: Sequence[Difference], count: int, common: Mapping[str, Any]) -> str:
    largest = max(rows, key=lambda row: abs((row.ratio or 2) - 1))
    where = _describe(largest.configuration, common)
    at = f" at {where}" if where else ""
    if largest.ratio is None or largest.ci is None:
        size = f"{quantities.text(figure, largest.after)}{at}"
    else:
        low, high = largest.ci
        size = f"{largest.ratio:.3f}x ({_bound(low)} to {_bound(high)}){at}"
    if count == 1:
        return f"{quantities.label(figure)} {size}"
    most = "" if len(rows) == 1 else "most: "
    return f"{quantities.label(figure)} in {len(rows)} of {count}, {most}{size}"


def _describe(configuration: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in configuration.items() if k not in common)
