"""How far a run is: bars and a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyruntime.bench.events import (
    Event,
    Finished,
    Left,
    OnEvent,
    Planned,
    Repeated,
    RoundBegun,
    Searched,
    Started,
)
from pyruntime.bench.results_text import COLUMNS, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.bench.results import Configuration, Measurement

__all__ = ["progress"]


@contextmanager
def progress(*, is_quiet: bool = False) -> Iterator[OnEvent | None]:
    """Give what is to be told of events; None where nothing is shown."""
    if is_quiet:
        yield None
        return
    if sys.stderr.isatty():
        try:
            import rich  # noqa: F401
        except ImportError:
            pass
        else:
            with _Live() as live:
                yield live.tell
            return
    yield _Lines().tell


def _label(configuration: Configuration) -> str:
    """With all that was chosen, since there is nothing beside it to compare with."""
    label = describe([configuration])[0]
    chosen = [configuration.model]
    if configuration.device is not None:
        chosen.append(f"{configuration.device}, threads {configuration.threads}")
    return f"{', '.join(chosen)}: {label}"


class _Lines:
    """One line for each thing that happens."""

    def __init__(self) -> None:
        self._points = 0
        self._done = 0

    def tell(self, event: Event) -> None:
        """See OnEvent."""
        match event:
            case Planned(points, warnings):
                self._points = points
                for warning in warnings:
                    self._say(f"warning: {warning}")
            case RoundBegun(number, rounds):
                self._say(f"round {number} of {rounds}")
            case Started(configuration, limit_s):
                self._say(f"{self._place()} {_label(configuration)} (at most {limit_s:g} s)")
            case Searched(_, rate, figure_us, is_kept):
                self._say(
                    f"    {rate:.0f}/s: {figure_us:.0f} us, {'kept' if is_kept else 'not kept'}"
                )
            case Finished(measurement):
                self._done += 1
                figures = measurement.figures
                p50_us, p99_us = (figures.get(name, 0.0) for name in ("p50_us", "p99_us"))
                self._say(
                    f"    p50 {p50_us:.1f} us, p99 {p99_us:.1f} us, "
                    f"{figures['requests_per_s']:.0f} requests/s, "
                    f"{len(measurement.repetitions)} repetitions"
                )
            case Left(skipped):
                self._done += 1
                self._say(f"{self._place(0)} {_label(skipped.configuration)}: {skipped.reason}")
            case Repeated():
                pass

    def _place(self, ahead: int = 1) -> str:
        return f"[{self._done + ahead}/{self._points}]"

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


# As many as a terminal of 80 columns shows; all are in the table at the end.
_LIVE_COLUMNS = ("p50 us", "p99 us", "requests/s", "CPU us")


class _Live:
    """Two bars, of all points and of the one that is measured, below the table so far."""

    def __init__(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[status]}"),
            console=self._console,
        )
        self._points = 0
        self._done = 0
        self._all = self._bars.add_task("all", total=None, status="")
        self._point = self._bars.add_task("", total=1.0, status="")
        self._measured: list[Measurement] = []
        self._group = Group
        self._live = Live(self._render(), console=self._console, transient=True)

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, event: Event) -> None:
        """See OnEvent."""
        match event:
            case Planned(points, warnings):
                self._points = points
                self._bars.update(self._all, total=points, status=f"0 of {points}")
                for warning in warnings:
                    self._console.print(f"warning: {warning}", style="yellow", markup=False)
            case RoundBegun(number, rounds):
                self._bars.update(self._all, description=f"round {number} of {rounds}")
            case Started(configuration, _):
                label = self._labels(configuration)[-1]
                self._bars.reset(self._point, description=label, status="warm-up")
            case Searched(_, rate, figure_us, is_kept):
                kept = "kept" if is_kept else "not kept"
                self._bars.update(self._point, status=f"{rate:.0f}/s: {figure_us:.0f} us, {kept}")
            case Repeated(_, repetitions, figures, width, share):
                known = f"±{width:.1%}" if width < 10 else "±?"
                p50_us = figures.get("p50_us", 0.0)
                self._bars.update(
                    self._point,
                    completed=share,
                    status=f"{repetitions} times, p50 {p50_us:.1f} us {known}",
                )
            case Finished(measurement):
                place = measurement.configuration
                self._measured = [one for one in self._measured if one.configuration != place]
                self._measured.append(measurement)
                self._advance()
            case Left(skipped):
                self._advance()
                self._console.print(
                    f"not measured: {_label(skipped.configuration)}: {skipped.reason}",
                    style="yellow",
                    markup=False,
                )
        self._live.update(self._render())

    def _advance(self) -> None:
        self._done += 1
        status = f"{self._done} of {self._points}"
        self._bars.update(self._all, completed=self._done, status=status)

    def _labels(self, *more: Configuration) -> list[str]:
        """Of all that was measured so far, and more: what sets them apart."""
        return describe([*(each.configuration for each in self._measured), *more])

    def _render(self) -> Any:
        from rich.table import Table

        if not self._measured:
            return self._bars
        shows = [show for name, show in COLUMNS if name in _LIVE_COLUMNS]
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for name in _LIVE_COLUMNS:
            table.add_column(name, justify="right", no_wrap=True)
        for label, measurement in zip(self._labels(), self._measured, strict=True):
            mark = " *" if measurement.warnings else ""
            table.add_row(label + mark, *(show(measurement.figures) for show in shows))
        return self._group(table, self._bars)
