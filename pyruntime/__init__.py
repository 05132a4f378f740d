"""Serves machine-learning models from a C++ core, in this process or over gRPC.

import pyruntime

with pyruntime.Runtime() as runtime:
    model = runtime.load("digits", "digits.onnx")
    outputs = model.infer({"pixels": pixels})
"""

from pathlib import Path as _Path

from pyruntime._hot import DeviceArray
from pyruntime.config import Batching, InstanceGroup, ModelOptions, Padding, ProviderOptions
from pyruntime.devices import DeviceInfo, devices
from pyruntime.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineError,
    InvalidInput,
    ModelNotFound,
    Overloaded,
    PyRuntimeError,
    Unavailable,
    Unimplemented,
)
from pyruntime.model import Model
from pyruntime.rollout import Gates, Rollout, RolloutPlan
from pyruntime.rollout_driver import RolloutStatus
from pyruntime.routing import (
    Arm,
    Assignment,
    Bandit,
    Experiment,
    Label,
    Latest,
    Route,
    Shadow,
    Split,
    Tolerance,
    Version,
)
from pyruntime.runtime import Runtime
from pyruntime.serving_state import StateStore
from pyruntime.telemetry import (
    ArmStats,
    BatchCost,
    BatchSizeStats,
    CostPoint,
    LatencyStats,
    ModelStats,
    OverlapTimes,
    PlacedNode,
    PoolStats,
    ProviderNodes,
    RouteStats,
    ShadowStats,
)
from pyruntime.tensors import TensorSpec

__version__: str  # given by __getattr__

__all__ = [
    "Arm",
    "ArmStats",
    "Assignment",
    "Bandit",
    "BatchCost",
    "BatchSizeStats",
    "Batching",
    "Cancelled",
    "CostPoint",
    "DeadlineExceeded",
    "DeviceArray",
    "DeviceInfo",
    "EngineError",
    "Experiment",
    "Gates",
    "InstanceGroup",
    "InvalidInput",
    "Label",
    "LatencyStats",
    "Latest",
    "Model",
    "ModelNotFound",
    "ModelOptions",
    "ModelStats",
    "OverlapTimes",
    "Overloaded",
    "Padding",
    "PlacedNode",
    "PoolStats",
    "ProviderNodes",
    "ProviderOptions",
    "PyRuntimeError",
    "Rollout",
    "RolloutPlan",
    "RolloutStatus",
    "Route",
    "RouteStats",
    "Runtime",
    "Shadow",
    "ShadowStats",
    "Split",
    "StateStore",
    "TensorSpec",
    "Tolerance",
    "Unavailable",
    "Unimplemented",
    "Version",
    "__version__",
    "devices",
    "get_include",
    "get_library",
]

_FOLDER = _Path(__file__).resolve().parent


def get_include() -> str:
    """Folder of the C++ headers, for a compiler's -I."""
    return str(_FOLDER / "include" / "pyruntime")


def get_library() -> str:
    """Path of the core library, for a linker."""
    return str(_FOLDER / "libpyruntime.so")


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: that import costs more than the package's."""
    if name != "__version__":
        raise AttributeError(f"module 'pyruntime' has no attribute '{name}'")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyruntime")
    except PackageNotFoundError:  # the sources, not installed
        return "0+unknown"
