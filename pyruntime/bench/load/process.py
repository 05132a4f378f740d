"""The process of a server on this machine, and what it uses."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyruntime.bench.load.target import Usage

if TYPE_CHECKING:
    import psutil

__all__ = ["ServerProcess"]


class ServerProcess:
    """A process and those that it started: what they use together."""

    def __init__(self, pid: int) -> None:
        """Raises psutil.Error if there is none, or it may not be looked at."""
        import psutil

        self._process = psutil.Process(pid)
        self._seen: dict[int, float] = {}  # processor time by process
        self.usage()

    @classmethod
    def listening_on(cls, address: str) -> "ServerProcess | None":
        """Find who listens on `HOST:PORT` or `unix:PATH` of this machine; None: not found."""
        import psutil

        with contextlib.suppress(psutil.Error, OSError):
            pid = _find(address)
            if pid is not None:
                return cls(_topmost(pid, address))
        return None

    def usage(self) -> Usage:
        """Of all; a process that has ended counts with what it had used when last seen."""
        import psutil

        resident_bytes = 0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._seen[process.pid] = times.user + times.system
                resident_bytes += process.memory_info().rss
        return Usage(sum(self._seen.values()), resident_bytes or None)

    def _family(self) -> Iterator["psutil.Process"]:
        import psutil

        yield self._process
        with contextlib.suppress(psutil.Error):
            yield from self._process.children(recursive=True)


def _find(address: str) -> int | None:
    import psutil

    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        for connection in psutil.net_connections("unix"):
            if str(connection.laddr) == path and connection.pid:
                return connection.pid
        return None
    host, _, port = address.rpartition(":")
    if host.strip("[]") not in _own_addresses():
        return None
    for connection in psutil.net_connections("tcp"):
        is_there = connection.laddr and connection.laddr.port == int(port)
        if is_there and connection.status == psutil.CONN_LISTEN and connection.pid:
            return connection.pid
    return None


def _own_addresses() -> set[str]:
    import psutil

    addresses = {"localhost", "0.0.0.0", "::"}
    for interface in psutil.net_if_addrs().values():
        addresses |= {item.address.partition("%")[0] for item in interface}
    return addresses


def _topmost(pid: int, address: str) -> int:
    """The first of a server's processes: workers that listen too have it as their parent."""
    import psutil

    process = psutil.Process(pid)
    name = process.cmdline()[:2]
    while (parent := process.parent()) is not None and parent.cmdline()[:2] == name:
        process = parent
    return process.pid
