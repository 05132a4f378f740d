"""Which libraries an ELF library needs, by its dynamic section.

The format: System V Application Binary Interface, chapters 4 and 5. Only the few pages that say it
are read, since a provider has hundreds of megabytes.
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from pyruntime.errors import Unavailable

__all__ = ["Dynamic", "read_dynamic"]

_PT_LOAD, _PT_DYNAMIC = 1, 2
_NULL, _NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 0, 1, 5, 14, 15, 29


@dataclass(frozen=True, slots=True)
class Dynamic:
    """What a library says of itself to the loader.

    needed: names of libraries, in order. run_path: folders to search, "$ORIGIN" not replaced.
    """

    needed: tuple[str, ...]
    soname: str = ""
    run_path: tuple[str, ...] = ()


def read_dynamic(path: str | os.PathLike[str]) -> Dynamic:
    """Read a little-endian 64-bit ELF library. Raises Unavailable for anything else."""
    where = os.fspath(path)
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _parse(data)
    except (ValueError, IndexError, struct.error) as error:
        raise Unavailable(f"{where}: expected a 64-bit ELF library: {error}") from None
    except OSError as error:
        raise Unavailable(f"{where}: {error.strerror or error}") from None


def _parse(data: mmap.mmap) -> Dynamic:
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it does not begin as one")
    (headers_at,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments: list[tuple[int, int, int]] = []  # address, offset, bytes in the file
    dynamic = None
    for i in range(count):
        at = headers_at + i * size
        kind, _, offset, address, _, in_file = struct.unpack_from("<IIQQQQ", data, at)
        if kind == _PT_LOAD:
            segments.append((address, offset, in_file))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, in_file)
    if dynamic is None:
        return Dynamic(())

    tags: list[tuple[int, int]] = []
    for at in range(dynamic[0], sum(dynamic), 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == _NULL:
            break
        tags.append((tag, value))
    texts = next((value for tag, value in tags if tag == _STRTAB), 0)
    base = next((o + texts - a for a, o, n in segments if a <= texts < a + n), None)
    if base is None:
        raise ValueError("its texts lie outside of it")

    def named(*wanted: int) -> list[str]:
        found = []
        for tag, value in tags:
            if tag in wanted:
                end = data.find(b"\0", base + value)
                found.append(data[base + value : end].decode())
        return found

    return Dynamic(
        tuple(named(_NEEDED)),
        "".join(named(_SONAME)[:1]),
        tuple(folder for text in named(_RUNPATH, _RPATH) for folder in text.split(":") if folder),
    )
