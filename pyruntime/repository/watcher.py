"""Notices which models' files have changed, once they have come to rest."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.repository.scan import Stamp, scan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Changes", "Watcher", "why_no_events"]

_log = logging.getLogger("pyruntime.repository")

# Files that have not changed for so long are complete: seconds.
QUIET_S = 0.4

# Without file events, how often to look; with them, how often in case one was lost: seconds.
POLL_EVERY_S = 1.0
LOST_EVENT_S = 15.0

# How soon file events are noticed: milliseconds.
_STEP_MS = 100

# File systems whose changes may be made on another machine, which tells nobody here.
_NETWORKS = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "lustre", "gluster", "afs", "virtiofs")


class Changes:
    """Compares a repository with what it was. Threads: one at a time."""

    def __init__(self, root: Path, *, quiet_s: float = QUIET_S) -> None:
        self._root = root
        self._quiet_s = quiet_s
        self._known = self._stamps()
        self._pending: dict[str, tuple[object, float]] = {}  # stamp, and since when

    @property
    def are_pending(self) -> bool:
        """Whether something has changed and not come to rest."""
        return bool(self._pending)

    def look(self, now: float) -> set[str]:
        """Give the models that have changed and come to rest. now: of time.monotonic()."""
        stamps = self._stamps()
        settled = set()
        for name in stamps.keys() | self._known.keys():
            stamp = stamps.get(name)
            if stamp == self._known.get(name):
                self._pending.pop(name, None)
                continue
            before, since = self._pending.get(name, (None, now))
            if stamp != before or name not in self._pending:
                self._pending[name] = (stamp, now)
            elif now - since >= self._quiet_s:
                del self._pending[name]
                settled.add(name)
                if stamp is None:
                    self._known.pop(name, None)
                else:
                    self._known[name] = stamp
        return settled

    def _stamps(self) -> dict[str, tuple[Stamp, ...]]:
        found = scan(self._root)
        return {
            model.name: (
                model.stamp,
                *((*one.stamp, (one.name, 0, 0, 0)) for one in model.versions),
            )
            for model in found
        }


class Watcher:
    """Calls back when models have changed.

    changed: called on the watcher's thread, with the names.
    poll_every_s: None: by file events, where there are any.
    clock: seconds, monotonic. wait: None: until a file event, or for so many seconds.
    """

    def __init__(
        self,
        root: Path,
        changed: Callable[[set[str]], None],
        *,
        poll_every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._root = root
        self._changed = changed
        self._poll_every_s = poll_every_s
        self._changes = Changes(root)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._clock = clock
        self._wait = self._wake.wait if wait is None else wait
        self._threads = [threading.Thread(target=self._run, name="pyruntime-watch", daemon=True)]
        if poll_every_s is None:
            if reason := why_no_events(root):
                _log.info("looking every %g s: %s", POLL_EVERY_S, reason)
                self._poll_every_s = POLL_EVERY_S
            else:
                notice = threading.Thread(
                    target=self._notice, name="pyruntime-file-events", daemon=True
                )
                self._threads.append(notice)

    def start(self) -> None:
        """Begin; what changed since this was made is noticed too."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; no call back is under way when this returns."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            idle_s = LOST_EVENT_S if self._poll_every_s is None else self._poll_every_s
            self._wake.clear()
            try:
                if names := self._changes.look(self._clock()):
                    self._changed(names)
            except Exception as error:
                _log.warning("cannot look at %s: %s", self._root, error)
            pause_s = min(idle_s, QUIET_S / 2) if self._changes.are_pending else idle_s
            if not self._stop.is_set():
                self._wait(pause_s)

    def _notice(self) -> None:
        import watchfiles

        try:
            for _ in watchfiles.watch(
                self._root,
                watch_filter=None,
                step=_STEP_MS,
                debounce=2 * _STEP_MS,
                stop_event=self._stop,
                raise_interrupt=False,
            ):
                self._wake.set()
        except Exception as error:  # no more inotify watches, for example
            _log.warning("no file events (%s): looking every %g s", error, POLL_EVERY_S)
            self._poll_every_s = POLL_EVERY_S
            self._wake.set()


def why_no_events(root: Path) -> str | None:
    """Say why changes in a folder may go without events; None: they come."""
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        return "watchfiles is not installed: pip install 'pyruntime[watch]'"
    kind = _file_system(root)
    if kind.startswith(_NETWORKS):
        return f"{kind} does not tell of changes made elsewhere"
    return None


def _file_system(root: Path) -> str:
    """Type of the file system that `root` is on, as in /proc/mounts."""
    best, kind = -1, ""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, place, found, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if root.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), found
    return kind
