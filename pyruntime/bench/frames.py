"""Results and comparisons as pandas frames, where pandas is installed."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyruntime.bench.differences import Differences
from pyruntime.bench.results import Results
from pyruntime.bench.summary import FIGURES
from pyruntime.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas

    from pyruntime.bench.parity_checking import Parity
    from pyruntime.bench.tuned import Tuning

__all__ = ["differences_frame", "parity_frame", "to_frame", "tuning_frame"]


def to_frame(results: Results, *, by_repetition: bool = False) -> "pandas.DataFrame":
    """A row for each measurement: its configuration and figures, with the intervals' ends.

    by_repetition: a row for each repetition instead, with the figures of that alone.
    Raises Unavailable without pandas.
    """
    rows: list[dict[str, Any]] = []
    for one in results.measurements:
        head = asdict(one.configuration)
        if by_repetition:
            for number, repetition in enumerate(one.repetitions):
                values = {name: make(repetition) for name, make in FIGURES.items()}
                known = {name: value for name, value in values.items() if value is not None}
                rows.append({**head, "round": repetition.round, "repetition": number, **known})
            continue
        row = {**head, **one.figures}
        for name, (low, high) in one.ci.items():
            row |= {f"{name}_low": low, f"{name}_high": high}
        row["rounds"] = max(1, len(one.rounds))
        rows.append({**row, "is_steady": one.is_steady, "is_complete": one.is_complete})
    return _frame(rows)


def differences_frame(found: Differences) -> "pandas.DataFrame":
    """A row for each figure that was compared. Raises Unavailable without pandas."""
    return _frame(
        {
            **row.configuration,
            "figure": row.figure,
            "side": row.side,
            "before": row.before,
            "after": row.after,
            "ratio": row.ratio,
            "ratio_low": row.ci[0] if row.ci else None,
            "ratio_high": row.ci[1] if row.ci else None,
            "p": row.p,
            "verdict": row.verdict,
        }
        for row in found.rows
    )


def parity_frame(found: "Parity") -> "pandas.DataFrame":
    """A row for each variant and output. Raises Unavailable without pandas."""
    return _frame(
        {
            "kind": variant.kind,
            "variant": variant.name,
            "output": item.output,
            "elements": item.elements,
            "unequal": item.unequal,
            "beyond": item.beyond,
            "is_close": item.is_close,
            **{
                f"{kind}_{name}": value
                for kind in ("absolute", "relative", "ulp")
                for name, value in getattr(item, kind).items()
            },
        }
        for variant in found.compared
        for item in variant.deviations
    )


def tuning_frame(found: "Tuning") -> "pandas.DataFrame":
    """A row for each trial. Raises Unavailable without pandas."""
    fields = ("in_flight", "requests_per_s", "rows_per_s", "latency_us", "keeps", "seconds")
    return _frame(
        {**trial.changes, **{name: getattr(trial, name) for name in fields}}
        for trial in found.trials
    )


def _frame(rows: Any) -> "pandas.DataFrame":
    try:
        import pandas
    except ImportError as error:
        raise Unavailable(f"pandas is absent ({error}): pip install pandas") from None
    made: list[Mapping[str, Any]] = list(rows)
    return pandas.DataFrame(made)
