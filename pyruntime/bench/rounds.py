"""Measures a plan in several processes, one after the other.

A process lies elsewhere in memory and meets other neighbours than the one before it, which no
repetition within it shows. Run as a program it is one such process: it receives a plan and sends
back what happens, over the pipe whose number it is given.
"""

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from pyruntime.bench.events import Event, OnEvent, Planned, RoundBegun
from pyruntime.bench.grid_run import measure_plan
from pyruntime.bench.merging import Round, merge_rounds
from pyruntime.bench.notebook import Save
from pyruntime.bench.plan import Plan
from pyruntime.bench.results import Results
from pyruntime.errors import PyRuntimeError, Unavailable

__all__ = ["measure_rounds"]

_END_S = 10.0


def measure_rounds(
    plan: Plan, *, command: tuple[str, ...], save: Save | None, on_event: OnEvent
) -> Results:
    """Measure all of it in each of `plan.rounds` processes; otherwise as measure_plan().

    A process that dies leaves what it had measured; the others go on.
    """
    rounds: list[Round] = []
    merged: Results | None = None

    def keep(results: Results, number: int, *, is_over: bool) -> Results:
        named = dataclasses.replace(results, command=command)
        rounds[number - 1 :] = [Round(number, named, is_over)]
        found = merge_rounds(rounds, plan.how)
        print_ = dict(found.fingerprint)
        print_["options"] = {**print_["options"], "rounds": plan.rounds}
        found = dataclasses.replace(found, fingerprint=print_)
        if save is not None:
            save(found)
        return found

    for number in range(1, plan.rounds + 1):
        on_event(RoundBegun(number, plan.rounds))
        for told in _round(plan, number):
            if isinstance(told, Results):
                merged = keep(told, number, is_over=False)
            elif isinstance(told, Planned):
                if number == 1:
                    on_event(Planned(told.points * plan.rounds, told.warnings))
            elif isinstance(told, _Died):
                last = rounds[number - 1].results if len(rounds) >= number else None
                if last is None:
                    raise Unavailable(f"round {number} {told.why}")
                warnings = (*last.warnings, f"the process {told.why}")
                merged = keep(dataclasses.replace(last, warnings=warnings), number, is_over=True)
            else:
                on_event(told)
        if len(rounds) >= number and not rounds[number - 1].is_over:
            merged = keep(rounds[number - 1].results, number, is_over=True)
    if merged is None:
        raise Unavailable("rounds: no process said anything")
    return merged


@dataclasses.dataclass(frozen=True, slots=True)
class _Died:
    """why: as "ended with exit status -9"."""

    why: str


def _round(plan: Plan, number: int) -> Iterator[Results | Event | _Died]:
    """What a process tells. Raises the error that it ended with."""
    ours, its = Pipe()
    with ours:
        with its:
            # -P: a folder here that is called pyruntime must not take the package's place.
            command = [sys.executable, "-P", "-m", "pyruntime.bench.rounds", str(its.fileno())]
            process = subprocess.Popen(command, pass_fds=[its.fileno()])
        is_ending = False
        try:
            how = dataclasses.replace(plan.how, round=number)
            try:
                ours.send(dataclasses.replace(plan, how=how, rounds=1))
                while (told := ours.recv()) is not None:
                    if isinstance(told, PyRuntimeError):
                        is_ending = True
                        raise told
                    yield told
                is_ending = True
            except (EOFError, OSError):
                is_ending = True
                yield _Died(_how_it_ended(process))
        finally:
            _end(process, is_ending=is_ending)


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    status = process.wait()
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _end(process: subprocess.Popen[bytes], *, is_ending: bool) -> None:
    """Wait for it. is_ending: by itself; otherwise what it measures is no longer wanted."""
    if not is_ending:
        process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _main() -> None:
    """Be one round."""
    # Ctrl-C reaches both; who started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as connection:
        plan: Plan = connection.recv()

        def tell(what: Any) -> None:
            connection.send(what)

        try:
            measure_plan(plan, command=(), save=tell, on_event=tell)
        except PyRuntimeError as error:
            tell(error)
        else:
            tell(None)


if __name__ == "__main__":
    _main()
