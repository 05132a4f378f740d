"""The ledger as text for a terminal of 100 columns."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from pyruntime.bench.ledger import Interval, Ledger, Step
from pyruntime.commands.table import WIDTH, table, wrap

__all__ = ["ledger_text"]

# What a delta is made of is named down to this share of it.
_SMALLEST_SHARE = 0.02


def ledger_text(ledger: Ledger) -> str:
    """Lay it out: what was measured, what to know, the steps, what they are made of, in short."""
    print_ = ledger.fingerprint
    parts = [_heading(print_)]
    notes = [f"outputs differ from C Run's: {text}" for text in ledger.differences]
    notes += [f"skipped: {item.name}: {item.reason}" for item in ledger.skipped]
    notes += ledger.warnings
    if notes:
        parts.append("\n".join(wrap(f"! {note}") for note in notes))
    for in_flight, steps in groupby(ledger.steps, key=lambda step: step.in_flight):
        parts.append(_block(ledger, in_flight, list(steps)))
    parts.append(_in_short(ledger))
    turns = f"{ledger.turns} turn{'s' if ledger.turns > 1 else ''}"
    parts.append(
        f"{turns}, {ledger.slice_ms:.0f} ms for each step in each; medians of the turns, ± spans "
        "95 %.\ndocs/ledger.md says how to read this."
    )
    return "\n\n".join(parts)


def _heading(print_: Mapping[str, Any]) -> str:
    model, request, gpu = print_["model"], print_["request"], print_["gpu"]
    shapes = ", ".join(f"{name} {shape}" for name, shape in request["shapes"].items())
    cores, usable = print_["cores"], len(print_["affinity"])
    of = "" if usable == cores else f" ({usable} usable)"
    machine = (
        f"{print_['cpu']}, {cores} core{'s' if cores != 1 else ''}{of}, "
        f"{print_['memory_bytes'] / 2**30:.0f} GiB, load {print_['load_1min']:.1f}, "
        f"Linux {print_['kernel']}"
    )
    card = "none"
    if gpu is not None:
        names = ", ".join(item["name"] for item in gpu["devices"]) or "unnamed"
        card = f"{names}, driver {gpu['driver']}"
    versions = ", ".join(f"{name} {version}" for name, version in print_["versions"].items())
    threads = print_["threads"]
    rows = [
        ("model", f"{model['file']}, {_bytes(model['size_bytes'])}, sha256 {model['sha256'][:12]}"),
        ("request", f"{shapes or 'no inputs'}, random"),
        ("machine", machine),
        ("GPU", card),
        ("libraries", versions),
        (
            "engine",
            f"{', '.join(print_['provider'])}; threads: {threads['intra_op']} intra-op, "
            f"{threads['inter_op']} inter-op; "
            f"{_batches(print_['options']['batching']['max_rows'])}",
        ),
    ]
    return "\n".join(wrap(f"{name:9}  {text}", indent=" " * 11) for name, text in rows)


def _block(ledger: Ledger, in_flight: int, steps: Sequence[Step]) -> str:
    title = "ONE CALLER"
    if in_flight > 1:
        rows = ledger.best_run_rows[in_flight]
        title = f"{in_flight} IN FLIGHT (bare engines: batches of {rows} rows, their best)"
    figures = [
        (
            step.name,
            _us(step.p50_us),
            _us(step.p99_us),
            f"{step.rows_per_s:,.0f}",
            f"{_share(step.ratio_to_run)}{_spread(step.ci['ratio_to_run'], _share)}",
        )
        for step in steps
    ]
    first = table(figures, header=("", "P50 us", "P99 us", "ROWS/S", "OF C RUN"), right=(1, 2, 3))
    deltas = [(step.name, _us(step.us_per_request), *_delta(step)) for step in steps]
    header = ("", "TIME us" if in_flight == 1 else "us EACH", "DELTA", "")
    second = table(deltas, header=header, right=(1, 2)).splitlines()
    reasons = [made_of(step, before) for before, step in zip((None, *steps), steps, strict=False)]
    width = max(map(len, second)) + 2
    pairs = zip(second, ("MADE OF", *reasons), strict=True)
    return "\n".join((title, first, "", *(_beside(left, width, text) for left, text in pairs)))


def made_of(step: Step, before: Step | None) -> str:
    """What changed from the step before, largest first; of the first step, what it consists of."""
    if before is None:
        return ", ".join(f"{name} {_us(us)}" for name, us in step.parts.items())
    names = dict.fromkeys((*step.parts, *before.parts))
    if step.in_flight > 1:
        names.pop("queue", None)
    changes = {name: step.parts.get(name, 0.0) - before.parts.get(name, 0.0) for name in names}
    least = _SMALLEST_SHARE * max(map(abs, changes.values()), default=0.0)
    largest = sorted(changes.items(), key=lambda item: -abs(item[1]))
    text = ", ".join(f"{name} {_signed(us)}" for name, us in largest if abs(us) > least)
    if step.in_flight > 1 and "queue" in step.parts:
        text += f"; waits {_us(step.parts['queue'])}"
    return text


def _in_short(ledger: Ledger) -> str:
    found = {item.name: item for item in ledger.comparisons}
    lines = []
    if core := found.get("core_minus_run_us"):
        lines.append(
            f"One caller, core: C Run {core.value:+.2f} us{_spread(core.ci, _us)}, at p50."
        )
    if infer := found.get("infer_to_python_run"):
        lines.append(
            f"One caller, Model.infer: {infer.value:.2f}{_spread(infer.ci, _us)} of the p50 of "
            "InferenceSession.run."
        )
    most = ledger.steps[-1].in_flight
    last = {step.name: step for step in ledger.steps if step.in_flight == most}
    if most > 1:
        core_step, loop = last["core"], last["infer_async"]
        lines.append(
            f"{most} in flight, core: {core_step.ratio_to_run:.3f}"
            f"{_spread(core_step.ci['ratio_to_run'], _share)} of the best batched C Run's rows/s."
        )
        lines.append(
            f"{most} in flight, asyncio: {1e6 / loop.us_per_request:,.0f} requests/s; each takes "
            f"{_us(loop.parts['python'])} us of the event loop's thread."
        )
    return "IN SHORT\n" + "\n".join(lines)


def _delta(step: Step) -> tuple[str, str]:
    if step.delta_us is None:
        return "", ""
    return _signed(step.delta_us), _spread(step.ci["delta_us"], _us).strip()


def _spread(ci: Interval, text_of: Callable[[float], str]) -> str:
    return f" ±{text_of((ci[1] - ci[0]) / 2)}"


def _share(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _us(value: float) -> str:
    return f"{value:,{_digits(value)}}"


def _signed(value: float) -> str:
    return f"{value:+,{_digits(value)}}"


def _digits(value: float) -> str:
    size = abs(value)
    return ".2f" if size < 10 else ".1f" if size < 100 else ".0f"


def _batches(max_rows: object) -> str:
    return (
        "batches as large as pays" if max_rows == "auto" else f"batches of at most {max_rows} rows"
    )


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _beside(left: str, width: int, text: str) -> str:
    """Put `text` right of a column of that width, in as many lines as it needs."""
    # A name and its figure stay together.
    tied = re.sub(r" ([-+\d])", "\N{NO-BREAK SPACE}\\1", text)
    lines = textwrap.wrap(tied, WIDTH - width, break_on_hyphens=False) or [""]
    padded = f"\n{' ' * width}".join(lines).replace("\N{NO-BREAK SPACE}", " ")
    return f"{left.ljust(width)}{padded}".rstrip()
