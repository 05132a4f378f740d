"""What a search found, as text for a terminal."""

from pyruntime.bench import quantities
from pyruntime.bench.choices import describe
from pyruntime.bench.tuned import Trial, Tuning
from pyruntime.commands.table import table, wrap

__all__ = ["tuning_text"]

_MOST = 12


def tuning_text(found: Tuning) -> str:
    """Lay it out: the best trials, what was skipped, the verdict and what became of the file."""
    figure = found.slo.split("=")[0]
    parts = [
        f"model    {found.model}\npromise  {found.slo}, by callers in this process\n"
        f"options  {found.file}"
    ]
    notes = [f"! {text}" for text in found.warnings]
    notes += [f"! skipped: {_options(item.changes)}: {item.reason}" for item in found.skipped]
    if notes:
        parts.append("\n".join(map(wrap, notes)))
    rows = [
        (
            str(trial.in_flight),
            quantities.text("rows_per_s", trial.rows_per_s),
            quantities.text("p99_us", trial.latency_us),
            "kept" if trial.keeps else "broken",
            _options(trial.changes),
        )
        for trial in found.trials[:_MOST]
    ]
    if rows:
        header = ("IN FLIGHT", "ROWS", figure.upper(), "PROMISE", "OPTIONS")
        parts.append(table(rows, header=header, right=(0, 1, 2)))
    if len(found.trials) > _MOST:
        parts[-1] += f"\nand {len(found.trials) - _MOST} more, measured more briefly"
    parts.append("IN SHORT\n" + "\n".join(_in_short(found, figure)))
    return "\n\n".join(parts)


def _in_short(found: Tuning, figure: str) -> list[str]:
    lines = []
    if found.default is not None:
        lines.append(f"there now: {_trial(found.default, figure)}")
    if found.best is None:
        lines.append("nothing that was tried keeps the promise; the file is as it was")
        return lines
    if not found.best.changes:
        lines.append("best: what is there; the file is as it was")
        return lines
    lines.append(f"best: {_trial(found.best, figure)}: {_options(found.best.changes)}")
    if found.ratio is not None and found.ci is not None:
        low, high = found.ci
        lines.append(f"margin: {found.ratio:.3f}x the rows each second ({low:.3f} to {high:.3f})")
    if not found.is_better:
        lines.append("that is not beyond chance; the file is as it was")
    elif found.is_written:
        lines.append(f"written to {found.file}")
    else:
        lines.append(f"not written to {found.file}, as was asked for")
    return lines


def _trial(trial: Trial, figure: str) -> str:
    rate = quantities.text("rows_per_s", trial.rows_per_s)
    latency = quantities.text("p99_us", trial.latency_us)
    broken = "" if trial.keeps else ", which breaks the promise"
    return f"{rate} at {trial.in_flight} in flight, {figure} {latency}{broken}"


def _options(changes: object) -> str:
    assert isinstance(changes, dict)
    return ", ".join(describe(changes)) or "as they are"
