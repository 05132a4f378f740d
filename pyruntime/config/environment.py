"""What the environment says, and where ONNX Runtime and the CUDA driver are."""

import os

from pyruntime.errors import Unavailable

__all__ = ["find_cuda_driver", "find_onnxruntime"]


def find_onnxruntime(path: str | os.PathLike[str] | None = None) -> str:
    """Find the library of ONNX Runtime without importing its Python module.

    path: the library itself, or None: what the environment's PYRUNTIME_ONNXRUNTIME says, else
    the one in the installed wheel. Raises Unavailable that says what to install.
    """
    where = "onnxruntime"
    if path is None:
        path = os.environ.get("PYRUNTIME_ONNXRUNTIME") or None
        where = "PYRUNTIME_ONNXRUNTIME"
    if path is not None:
        if not os.path.isfile(path):  # noqa: PTH113
            raise Unavailable(f"{where}: expected the path of a library, got '{os.fspath(path)}'")
        return os.fspath(path)
    found = _find_in_wheel()
    if found is None:
        raise Unavailable(
            "ONNX Runtime is not installed: pip install 'pyruntime[cpu]' (or 'pyruntime[cuda12]', "
            "'pyruntime[cuda13]' with a GPU), or set PYRUNTIME_ONNXRUNTIME to its library"
        )
    return found


def find_cuda_driver() -> str:
    """Find the CUDA driver: what the environment's PYRUNTIME_CUDA_DRIVER says, "" for the system's.

    Raises Unavailable when no library is there.
    """
    path = os.environ.get("PYRUNTIME_CUDA_DRIVER", "")
    if path and not os.path.isfile(path):  # noqa: PTH113
        raise Unavailable(f"PYRUNTIME_CUDA_DRIVER: expected the path of a library, got '{path}'")
    return path


def _find_in_wheel() -> str | None:
    from importlib.util import find_spec
    from pathlib import Path

    try:
        spec = find_spec("onnxruntime")
    except (ImportError, ValueError):
        return None
    for folder in (spec and spec.submodule_search_locations) or ():
        libraries = sorted(Path(folder, "capi").glob("libonnxruntime.so*"))
        if libraries:
            return str(libraries[-1])
    return None
