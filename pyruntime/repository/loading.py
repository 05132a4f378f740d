"""Loads one version: beside what is served, warmed up, then visible in one step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyruntime.errors import EngineError, InvalidInput, PyRuntimeError
from pyruntime.repository import warm_up
from pyruntime.repository.background import run_in_background
from pyruntime.repository.claims import check_claims
from pyruntime.repository.memory import process_bytes
from pyruntime.repository.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.config.model import ModelConfig
    from pyruntime.model import Model
    from pyruntime.repository.scan import FoundModel, FoundVersion
    from pyruntime.runtime import Runtime

__all__ = ["Loaded", "load_version"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that is served now. note: what its user should know, or nothing."""

    model: Model
    seconds: float
    note: str


def load_version(
    runtime: Runtime,
    found: FoundModel,
    version: FoundVersion,
    check_size: Callable[[int], None],
    *,
    gently: bool,
) -> Loaded:
    """Load it, hold it against its configuration, warm it up, and swap it in.

    gently: on threads of low priority, held back while requests feel it.
    check_size: called with the bytes that it needs, before it is served; may refuse it.
    Raises the errors of Runtime.load, and what check_size does; then nothing has changed.
    """
    begin = time.perf_counter()
    before = process_bytes()
    config = found.config
    notes: list[str] = []
    if config.ignored:
        notes.append("its configuration has what means nothing here: " + ", ".join(config.ignored))

    def prepare(model: Model) -> None:
        check_claims(model, config)

        def run() -> None:
            if note := _warm_up(model, config, found):
                notes.append(note)

        if gently:
            run_in_background(run)
        else:
            run()
        check_size(max(process_bytes() - before, 0) + model.stats().pool.held_bytes)

    number = version.number
    if number is None:
        raise InvalidInput(f"version's name: expected a number, got {version.name!r}")
    where = f"model '{version.model}' version {number}: "
    if gently:
        with runtime._throttle.begin(version.model, number) as pace:
            files = [found.folder / version.name / name for name, *_ in version.stamp]
            run_in_background(lambda: read_ahead(files, pace.step))
    try:
        model = runtime.load(
            version.model,
            version.path,
            version=number,
            options=config.options,
            warm_up=prepare,
            replace=True,
            gently=gently,
        )
    except PyRuntimeError as error:
        raise type(error)(where + str(error).replace(where, "", 1)) from error
    except Exception as error:  # out of memory, a file that vanished
        raise EngineError(f"{where}{type(error).__name__}: {error}") from error
    return Loaded(model, time.perf_counter() - begin, "; ".join(notes))


def _warm_up(model: Model, config: ModelConfig, found: FoundModel) -> str:
    """Warm up; a default warm-up that fails is only told."""
    try:
        warm_up.run(model, config, found.folder)
    except PyRuntimeError as error:
        if config.warm_up is not None or config.requests:
            raise type(error)(f"warm-up: {error}") from None
        return f"not warmed up: {error}"
    return ""
