"""Addresses that front ends listen on."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from pyruntime.errors import InvalidInput

_MAX_UNIX_PATH = 107  # bytes, of sockaddr_un.sun_path without its end


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host, by name or number, and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def why_unusable(self) -> str | None:
        """What the system says to listening here."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            return f"cannot find host {self.host!r}: {error.strerror}"
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(place)
                except OSError as error:
                    return os.strerror(error.errno or 0)
        return None


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def why_unusable(self) -> str | None:
        """Why nothing can listen here: someone does, or a file or folder is in the way."""
        if not self.path.parent.is_dir():
            return f"no such folder: {self.path.parent}"
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return None
        if not stat.S_ISSOCK(mode):
            return "a file that is not a socket is in the way"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return None  # left behind by a process that is gone
            except OSError as error:
                return os.strerror(error.errno or 0)
        return "another process listens there"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, `[HOST]:PORT` or `unix:PATH`. Raises InvalidInput."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path or len(os.fsencode(path)) > _MAX_UNIX_PATH:
            raise InvalidInput(
                f"address {text!r}: expected a path of 1 to {_MAX_UNIX_PATH} bytes, "
                f"got {len(os.fsencode(path))}"
            )
        return UnixAddress(Path(path))
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"address {text!r}: expected HOST:PORT or unix:PATH")
    return TcpAddress(host, int(port))
