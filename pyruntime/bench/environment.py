"""What about this machine would spoil figures, and what to do about it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["check_environment"]

_LOOK_S = 0.2
_BUSY = 0.15  # share of the cores
_STOLEN = 0.01  # share of the time
_CPU = Path("/sys/devices/system/cpu")


def check_environment(threads: Sequence[int] = (), *, is_inproc: bool = True) -> list[str]:
    """Warnings, each with what to do; none where nothing is wrong.

    threads: what the models of this process use at once, for each way of loading them.
    """
    warnings = [*_governors(), *_others()]
    warnings += _oversubscribed(max(threads, default=0))
    if is_inproc:
        warnings += _telemetry()
    return warnings


def _governors() -> list[str]:
    found = {_read(path) for path in _CPU.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    slow = sorted(found - {"performance", ""})
    if not slow:
        return []
    return [
        f"frequency scaling: the governor is {', '.join(slow)}, so that the clock follows the "
        "load; sudo cpupower frequency-set -g performance"
    ]


def _others() -> list[str]:
    """Processes and guests that take the processor."""
    import psutil

    warnings = []
    _busiest()  # from here on
    before = psutil.Process().cpu_times()
    times = psutil.cpu_times_percent(interval=_LOOK_S)
    after = psutil.Process().cpu_times()
    cores = psutil.cpu_count() or 1
    own = (after.user + after.system - before.user - before.system) / (_LOOK_S * cores)
    busy = max(0.0, (times.user + times.nice + times.system) / 100 - own)
    if busy > _BUSY:
        names = ", ".join(_busiest()) or "unknown"
        warnings.append(
            f"other load: other processes use {busy:.0%} of the processors ({names}); end them, or "
            "measure when they rest"
        )
    if getattr(times, "steal", 0.0) / 100 > _STOLEN:
        warnings.append(
            f"stolen time: the hypervisor gave {times.steal:.0f} % of the time to other guests; "
            "use a machine with cores of its own, and repeat on another day"
        )
    return warnings


def _busiest() -> list[str]:
    """Names of the processes that used most since the call before."""
    import psutil

    processes = []
    for process in psutil.process_iter(["name", "cpu_percent"]):
        if process.pid != os.getpid():
            processes.append((process.info["cpu_percent"] or 0.0, process.info["name"]))
    return [name for percent, name in sorted(processes, reverse=True)[:3] if percent > 1]


def _oversubscribed(threads: int) -> list[str]:
    cores: float = len(os.sched_getaffinity(0))
    where = f"{cores:.0f} usable cores"
    if (quota := _cgroup_cores()) is not None and quota < cores:
        cores, where = quota, f"a limit of {quota:g} cores (cgroup)"
    if threads <= cores:
        return []
    return [
        f"oversubscribed threads: the model's instances use {threads} threads together on {where}; "
        "lower --threads or --instances"
    ]


def _cgroup_cores() -> float | None:
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return None
    return int(quota) / int(period)


def _telemetry() -> list[str]:
    """Of this process alone: a server's environment is known to who starts it.

    The core switches it off for what it loads, but cannot for what Python has loaded before.
    """
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" or "onnxruntime" not in sys.modules:
        return []
    return [
        "telemetry: this process has imported the Python module onnxruntime with its telemetry on, "
        "which has a thread of its own; export ORT_DISABLE_TELEMETRY=1 before it starts"
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
