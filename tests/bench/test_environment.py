"""Checks of the machine before anything is measured: each says what to do."""

from __future__ import annotations

import sys
import types

import pytest

pytest.importorskip("psutil")

from typing import TYPE_CHECKING

from pyruntime.bench import environment
from pyruntime.bench.environment import check_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def quiet(monkeypatch, tmp_path: Path) -> types.SimpleNamespace:
    """A machine of four cores that nothing is wrong with."""
    import psutil

    times = types.SimpleNamespace(user=1.0, nice=0.0, system=1.0, steal=0.0)
    monkeypatch.setattr(psutil, "cpu_times_percent", lambda **_: times)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(environment, "_CPU", tmp_path)
    monkeypatch.setattr(environment, "_cgroup_cores", lambda: None)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    return times


def test_a_quiet_machine_has_no_warnings(quiet) -> None:
    assert check_environment([1, 4]) == []


def test_a_governor_that_saves_power_is_named(quiet, tmp_path: Path) -> None:
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    (warning,) = check_environment()
    assert "frequency scaling: the governor is powersave" in warning
    assert "cpupower frequency-set -g performance" in warning
    (folder / "scaling_governor").write_text("performance\n")
    assert check_environment() == []


def test_other_load_and_stolen_time_are_named(quiet) -> None:
    quiet.user, quiet.steal = 60.0, 5.0
    load, stolen = check_environment()
    assert load.startswith("other load: other processes use ")
    assert "end them" in load
    assert stolen.startswith("stolen time: the hypervisor gave 5 %")


def test_more_threads_than_cores_are_named(quiet, monkeypatch) -> None:
    (warning,) = check_environment([2, 8])
    assert "use 8 threads together on 4 usable cores; lower --threads or --instances" in warning
    monkeypatch.setattr(environment, "_cgroup_cores", lambda: 1.5)
    (warning,) = check_environment([2])
    assert "2 threads together on a limit of 1.5 cores (cgroup)" in warning


def test_telemetry_of_the_engine_is_named(quiet, monkeypatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    (warning,) = check_environment()
    assert "export ORT_DISABLE_TELEMETRY=1" in warning
    assert check_environment(is_inproc=False) == []
