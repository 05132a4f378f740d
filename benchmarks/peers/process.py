"""A peer's process: started, waited for, and stopped with all that it started."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

from benchmarks.peers.peer import ENVIRONMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.peers.peer import Peer, Start

READY_S = 120.0
STOP_S = 10.0


def free_ports() -> tuple[int, int, int]:
    """Three that nobody listens on now, and that the system gives to nobody meanwhile."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < 3:
            bound = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                # Below those that are given to clients.
                bound.bind(("127.0.0.1", random.randrange(20_000, 30_000)))
                ports.append(bound.getsockname()[1])
        return ports[0], ports[1], ports[2]


@contextlib.contextmanager
def running(peer: Peer, start: Start, is_ready: Callable[[], bool]) -> Iterator[int]:
    """Give its process number while it runs. Raises RuntimeError with the end of what it said."""
    log = start.folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            peer.command(start),
            cwd=start.folder,
            env=os.environ | peer.environment(start),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(_why_not(peer, log))
            time.sleep(0.2)
        yield process.pid
    finally:
        stop(process)


def _why_not(peer: Peer, log: Path) -> str:
    """The end of what it said; all of it is kept, since the cause is often further up."""
    kept = ENVIRONMENTS / f"{peer.name}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, kept)
    last = log.read_text(errors="replace").strip().splitlines()[-8:]
    return "\n  ".join([f"{peer.name} did not become ready ({kept} has all it said):", *last])


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and end what is left: some servers forget their workers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        family = [first, *first.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=STOP_S)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    # Those that a supervisor started anew meanwhile have its session.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
