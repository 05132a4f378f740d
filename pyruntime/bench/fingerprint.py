"""What the figures were measured on, so that they can be compared with others."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["hash_file", "machine", "versions"]

_SMI_TIMEOUT_S = 10


def machine() -> dict[str, Any]:
    """The machine: processor, cores, memory in bytes, GPU and its driver (None: there is none)."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_1min": os.getloadavg()[0],
        "kernel": platform.release(),
        "gpu": _gpu(),
    }


def versions(engine: str) -> dict[str, str | None]:
    """Of the libraries; None for one that is absent.

    engine: of the ONNX Runtime of the core, empty where that is not loaded.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    found["onnxruntime"] = engine or None
    for name in ("pyruntime", "numpy", "grpcio"):
        found[name] = _version(name)
    # Python's module has a library of its own: the wheel's.
    for name in ("onnxruntime", "onnxruntime-gpu"):
        if version := _version(name):
            found[f"{name} (Python)"] = version
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cpu_model() -> str:
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _gpu() -> dict[str, Any] | None:
    """Devices and driver, by the driver's own tool or else by what its module says."""
    if (tool := shutil.which("nvidia-smi")) is not None:
        query = "--query-gpu=name,memory.total,driver_version"
        try:
            done = subprocess.run(
                [tool, query, "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=_SMI_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            done = None
        rows = [line.split(", ") for line in done.stdout.splitlines()] if done else []
        rows = [row for row in rows if len(row) == 3]
        if rows:
            devices = [{"name": name, "memory_mib": memory} for name, memory, _ in rows]
            return {"devices": devices, "driver": rows[0][2]}
    for line in _lines("/proc/driver/nvidia/version"):
        if line.startswith("NVRM version:"):
            return {"devices": [], "driver": line.partition(":")[2].strip()}
    return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
