"""What this machine and this installation can run models on."""

from dataclasses import dataclass
from typing import Literal

from pyruntime import _core
from pyruntime.config import find_cuda_driver, find_onnxruntime
from pyruntime.errors import PyRuntimeError

__all__ = ["DeviceInfo", "devices"]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device backend, an engine, or an execution provider of an engine.

    name: "cuda", "onnx", "CUDAExecutionProvider".
    count: devices of a backend; 1 for what else is there, 0 for what is absent.
    version: of an engine, "" elsewhere.
    engine: of a provider, "" elsewhere.
    why_absent: the reason, "" for what is there.
    warning: what is wrong although it is there, "" where nothing is.
    devices: what each of a backend's devices is, "NVIDIA H200, 139.8 GiB, CUDA 13.0"; "" where
        there is nothing to say.
    """

    kind: Literal["backend", "engine", "provider"]
    name: str
    count: int
    version: str = ""
    engine: str = ""
    why_absent: str = ""
    warning: str = ""
    devices: tuple[str, ...] = ()

    @property
    def is_present(self) -> bool:
        """Whether a model can be placed on it."""
        return not self.why_absent


def devices() -> list[DeviceInfo]:
    """List device backends, engines and their execution providers, absent ones too.

    Loads ONNX Runtime if it is installed. Never raises for what is absent.
    """
    cuda_problem = _prepare_cuda()
    listed = []
    for name, count, why_absent, each in _core.backends():
        if name == "cuda" and cuda_problem:
            count, why_absent, each = 0, cuda_problem, []
        listed.append(
            DeviceInfo("backend", name, count, why_absent=why_absent, devices=tuple(each))
        )
    onnx_problem = _prepare_onnx()
    for name, version, why_absent, providers in _core.engines():
        if name == "onnx":
            why_absent = onnx_problem or why_absent
        conflict = _conflict() if name == "onnx" else ""
        listed.append(
            DeviceInfo("engine", name, int(not why_absent), version, "", why_absent, conflict)
        )
        if not why_absent:
            listed += [_provider(name, item) for item in providers]
            if name == "onnx":
                absent = [item for item in _OF_GPUS if item not in providers]
                reason = f"not in this ONNX Runtime: {conflict or _INSTALL}"
                listed += [DeviceInfo("provider", i, 0, "", name, reason) for i in absent]
    return listed


_OF_GPUS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
_INSTALL = (
    "pip uninstall onnxruntime, then pip install 'pyruntime[cuda12]' "
    "or 'pyruntime[cuda13]'; the two wheels overwrite each other"
)


def _conflict() -> str:
    from pyruntime.cuda_libraries import wheel_conflict

    try:
        return wheel_conflict(find_onnxruntime())
    except PyRuntimeError:
        return ""


def _provider(engine: str, name: str) -> DeviceInfo:
    """Describe a provider that the engine was built with: its libraries may be missing."""
    why_absent = ""
    if name in _OF_GPUS:
        from pyruntime.cuda_libraries import find_libraries, library_folders, library_of

        try:
            path = library_of(find_onnxruntime(), name)
            if path is not None:
                why_absent = find_libraries(path, library_folders()).why_absent()
        except PyRuntimeError as error:
            why_absent = str(error)
    return DeviceInfo("provider", name, int(not why_absent), "", engine, why_absent)


def _prepare_cuda() -> str:
    try:
        _core.configure_cuda_driver(path=find_cuda_driver())
    except PyRuntimeError as error:
        return str(error)
    return ""


def _prepare_onnx() -> str:
    if _core.is_onnx_library_loaded():
        return ""
    try:
        _core.configure_onnx_library(path=find_onnxruntime())
        _core.load_onnx_library()
    except PyRuntimeError as error:
        return str(error)
    return ""
