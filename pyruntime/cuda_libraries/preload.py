"""Finds what an execution provider's library needs, and loads it first."""

import ctypes
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyruntime.cuda_libraries.elf import read_dynamic
from pyruntime.cuda_libraries.packages import is_of_cuda, library_folders, package_of
from pyruntime.errors import Unavailable

__all__ = ["Libraries", "find_libraries", "library_of", "preload", "preload_for"]

_FILES = {
    "cuda": "libonnxruntime_providers_cuda.so",
    "tensorrt": "libonnxruntime_providers_tensorrt.so",
}
_DRIVER = "libcuda.so.1"
# Opened by name by providers that do not declare them, and by cuDNN: cuFFT's version is CUDA's
# less one.
_COMPANIONS = ("libnvJitLink.so.{cuda}", "libnvrtc.so.{cuda}", "libcufft.so.{fft}", "libcudnn.so.9")


@dataclass(frozen=True, slots=True)
class Libraries:
    """What a provider's library needs.

    cuda: its major version. found: paths in the order to load them, or bare names that the system
    has. missing: names of what it cannot do without. lacking: of what some operators need.
    """

    provider: Path
    cuda: int
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    def why_absent(self) -> str:
        """Name what is missing, and who has it; empty where nothing is."""
        return "; ".join(_advise(name, self.cuda) for name in self.missing)


def find_libraries(provider: str | os.PathLike[str], folders: Sequence[Path]) -> Libraries:
    """Look for what a provider's library needs, in `folders` and where the system looks.

    What only the system has is loaded by asking for it. Raises Unavailable if the provider's
    library itself cannot be read.
    """
    path = Path(provider)
    needed = read_dynamic(path).needed
    cuda = next((int(n[len("libcudart.so.") :]) for n in needed if n.startswith("libcudart.")), 12)
    found: dict[str, str] = {}
    missing: list[str] = []
    lacking: list[str] = []
    seen: set[str] = set()

    def visit(name: str, into: list[str], near: Iterable[Path] = ()) -> None:
        if name in seen:
            return
        seen.add(name)
        file = next((folder / name for folder in (*near, *folders) if (folder / name).exists()), "")
        if file:
            # Those that it needs come first.
            for other in read_dynamic(file).needed:
                if is_of_cuda(other):
                    visit(other, into, (Path(file).parent,))
            found[name] = str(file)
        elif _loads(name):
            found[name] = name
        else:
            into.append(name)

    for name in needed:
        if is_of_cuda(name) or name == _DRIVER:
            visit(name, missing, (path.parent,))
    for pattern in _COMPANIONS:
        visit(pattern.format(cuda=cuda, fft=cuda - 1), lacking)
    return Libraries(path, cuda, tuple(found.values()), tuple(missing), tuple(lacking))


def preload(libraries: Libraries) -> None:
    """Load what was found. Raises Unavailable that names what is missing, or does not load."""
    where = libraries.provider.name
    if libraries.missing:
        raise Unavailable(f"{where} cannot be loaded: {libraries.why_absent()}")
    for path in libraries.found:
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise Unavailable(f"{where} needs {path}, which does not load: {error}") from None


def preload_for(engine: str | os.PathLike[str], providers: Iterable[str]) -> None:
    """Load what the providers named ("cuda", "CUDAExecutionProvider") need.

    engine: path of ONNX Runtime's library; its providers lie beside it. One that does not is left
    to ONNX Runtime, which says what it has. Raises Unavailable as preload().
    """
    for provider in providers:
        path = library_of(engine, provider)
        if path is not None:
            preload(find_libraries(path, library_folders()))


def library_of(engine: str | os.PathLike[str], provider: str) -> Path | None:
    """Path of a provider's library beside ONNX Runtime's; None: it has none of a GPU."""
    file = _FILES.get(provider.lower().removesuffix("executionprovider"))
    path = Path(engine).parent / file if file else None
    return path if path is not None and path.exists() else None


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _advise(name: str, cuda: int) -> str:
    if name == _DRIVER:
        return f"{name}: not found; it comes with NVIDIA's driver"
    return f"{name}: not found; pip install {package_of(name, cuda)}"
