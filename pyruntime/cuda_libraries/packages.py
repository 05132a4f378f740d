"""Which package has a library of CUDA, and where packages put such libraries."""

import re
import sys
from pathlib import Path

__all__ = ["is_of_cuda", "library_folders", "package_of"]

# By the library's name without "lib" and ".so". Those of CUDA 12 end in "-cu12", those of CUDA 13
# in nothing, apart from cuDNN's.
_PACKAGES = {
    "cublas": "nvidia-cublas",
    "cublasLt": "nvidia-cublas",
    "cudart": "nvidia-cuda-runtime",
    "cufft": "nvidia-cufft",
    "curand": "nvidia-curand",
    "nvJitLink": "nvidia-nvjitlink",
    "nvrtc": "nvidia-cuda-nvrtc",
}
_NAME = re.compile(r"lib(?P<stem>[A-Za-z_]+?)\.so(\.(?P<version>\d+))?")


def is_of_cuda(name: str) -> bool:
    """Whether it is no library of the system or of the driver: such a package has it."""
    return package_of(name, 12) != ""


def package_of(name: str, cuda: int) -> str:
    """Name the package of a library such as "libcudnn.so.9"; empty where none is known.

    cuda: the major version that it is needed for.
    """
    match = _NAME.match(name)
    stem = match["stem"] if match else ""
    if stem.startswith("cudnn"):
        return f"nvidia-cudnn-cu{cuda}"
    if stem.startswith(("nvinfer", "nvonnxparser")):
        version = int(match["version"] or 0) if match else 0
        return f"'tensorrt-cu{cuda}-libs=={version}.*'" if version else f"tensorrt-cu{cuda}-libs"
    if stem not in _PACKAGES:
        return ""
    return _PACKAGES[stem] + ("-cu12" if cuda == 12 else "")


def library_folders() -> list[Path]:
    """Folders of the packages' libraries in this Python, those of NVIDIA's before PyTorch's."""
    roots = [Path(entry) for entry in sys.path if entry]
    patterns = ("nvidia/*/lib", "tensorrt_libs", "torch/lib")
    return [
        folder
        for pattern in patterns
        for root in roots
        for folder in sorted(root.glob(pattern))
        if folder.is_dir()
    ]
