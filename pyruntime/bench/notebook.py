"""What a run has measured so far, kept as it goes."""

import datetime
import time
from collections.abc import Callable
from typing import Any

from pyruntime.bench.events import Finished, Left, OnEvent
from pyruntime.bench.results import Configuration, Measurement, Results, Skipped

__all__ = ["Notebook", "Save"]

_SAVE_EVERY_S = 1.0

# Keeps what there is: in a file, or with whoever started this process.
Save = Callable[[Results], None]


def now() -> str:
    """When results are made; ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Notebook:
    """Measurements, finished and going on; told to whoever listens."""

    def __init__(
        self,
        *,
        save: Save | None,
        command: tuple[str, ...],
        fingerprint: dict[str, Any],
        on_event: OnEvent,
    ) -> None:
        self._save = save
        self._created = now()
        self._command = command
        self._saved_at = -_SAVE_EVERY_S
        self._measurements: list[Measurement] = []
        self._running: Measurement | None = None
        self._skipped: list[Skipped] = []
        self.fingerprint = fingerprint
        self.warnings: list[str] = []
        self.on_event = on_event
        self._write(self.results())  # a file that cannot be written shows at once

    def results(self, running: Measurement | None = None) -> Results:
        """All of it, with one that is going on."""
        measurements = [*self._measurements, *([running] if running else [])]
        return Results(
            created=self._created,
            command=self._command,
            fingerprint=self.fingerprint,
            measurements=tuple(measurements),
            skipped=tuple(self._skipped),
            warnings=tuple(self.warnings),
        )

    def keep(self, running: Measurement) -> None:
        """Save what there is so far of a point, not more often than a disk minds."""
        self._running = running
        if time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self.keep_all()

    def keep_all(self) -> None:
        """Save what there is, and of the point that is going on too."""
        self._write(self.results(self._running))

    def add(self, measurement: Measurement) -> None:
        """Keep a point that is finished."""
        self._running = None
        self._measurements.append(measurement)
        self._write(self.results())
        self.on_event(Finished(measurement))

    def skip(self, configuration: Configuration, reason: str) -> None:
        """Keep why a point was not measured."""
        skipped = Skipped(configuration, reason)
        self._running = None
        self._skipped.append(skipped)
        self._write(self.results())
        self.on_event(Left(skipped))

    def _write(self, results: Results) -> None:
        if self._save is not None:
            self._save(results)
            self._saved_at = time.monotonic()
