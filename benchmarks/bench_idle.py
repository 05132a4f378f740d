"""Processor time that a server with nothing to do uses.

    python -P benchmarks/bench_idle.py [--seconds 2]

`pyruntime serve` with three models answers requests, is left alone for a second, and is then
watched from outside. Prints the nanoseconds of each thread that ran, by its name, and one line of
JSON. The threads named pyrt-... are the core's, and are to use none. grpcio's server polls a few
times a second for its own reasons.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np

from pyruntime.client import infer_request
from pyruntime.frontends import protocol

MODELS = Path(__file__).parents[1] / "tests" / "models"
ROWS = {
    "identity_f32": np.ones((1, 16), np.float32),
    "mlp_64_256_256_10": np.ones((1, 64), np.float32),
    "conv_64": np.ones((1, 3, 64, 64), np.float32),
}


def process_ns(pid: int) -> int:
    """Processor time of a process so far, user and kernel."""
    return time.clock_gettime_ns((~pid << 3) | 2)  # its clock's id, as clock_getcpuclockid() gives


def thread_ns(pid: int) -> dict[tuple[str, str], int]:
    """Of each thread, by number and name. The kernel may count one that runs a tick late."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran_ns = int((task / "schedstat").read_text().split()[0])
        found[task.name, (task / "comm").read_text().strip()] = ran_ns
    return found


def send_requests(address: str, times: int) -> None:
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(protocol.path("ModelInfer"))
        for name, row in ROWS.items():
            request = infer_request(name, {"x": row}).SerializeToString()
            for future in [infer.future(request) for _ in range(times)]:
                future.result()


def watch(pid: int, seconds: float) -> dict[str, object]:
    threads_before, before = thread_ns(pid), process_ns(pid)
    time.sleep(seconds)
    used_ns = process_ns(pid) - before
    by_name: dict[str, int] = {}
    for key, ran_ns in thread_ns(pid).items():
        used = ran_ns - threads_before.get(key, 0)
        by_name[key[1]] = by_name.get(key[1], 0) + used
    core_ns = sum(ns for name, ns in by_name.items() if name.startswith("pyrt-"))
    for name, ns in sorted(by_name.items(), key=lambda item: -item[1]):
        if ns or name.startswith("pyrt-"):
            print(f"{name:16} {ns:>12,} ns")
    print(f"{'process':16} {used_ns:>12,} ns in {seconds:g} s")
    return {"process_ns": used_ns, "core_ns": core_ns, "by_thread_name_ns": by_name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ROWS:
            version = Path(folder, name, "1")
            version.mkdir(parents=True)
            shutil.copy(MODELS / f"{name}.onnx", version / "model.onnx")
        command = [sys.executable, "-P", "-m", "pyruntime.cli", "serve", folder]
        with subprocess.Popen(
            [*command, "--grpc", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stdout is not None
                address = next(
                    found[1]
                    for line in server.stdout
                    if (found := re.search(r"listening on (\S+)", line))
                )
                send_requests(address, 50)
                time.sleep(1)
                figures = watch(server.pid, options.seconds)
            finally:
                server.terminate()
    print(json.dumps({"benchmark": "idle", "seconds": options.seconds, **figures}))


if __name__ == "__main__":
    main()
