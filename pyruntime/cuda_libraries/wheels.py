"""The wheels of ONNX Runtime: several install into one folder, and overwrite each other."""

from importlib import metadata
from pathlib import Path

__all__ = ["wheel_conflict"]

# All of them put their files into the folder `onnxruntime`.
_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)


def wheel_conflict(library: str) -> str:
    """What is wrong where several of them are installed, and what to do; empty where it is one.

    library: ONNX Runtime's, which may not be from a wheel: then nothing is wrong.
    Which one's files are there depends on the order in which they were installed, and removing one
    takes away files of the other. So what is there may lack the providers of a GPU, or parts.
    """
    if Path(library).parent.parent.name != "onnxruntime":
        return ""
    installed = [name for name in _WHEELS if _is_installed(name)]
    if len(installed) < 2:
        return ""
    return (
        f"{' and '.join(installed)} are installed together and overwrite each other's files: "
        f"pip uninstall -y {' '.join(installed)}, then pip install one of 'pyruntime[cuda12]', "
        "'pyruntime[cuda13]' (with a GPU) and 'pyruntime[cpu]'"
    )


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
