"""What the environment says, and where ONNX Runtime is."""

import os

from pyruntime.errors import Unavailable

__all__ = ["find_onnxruntime"]


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
