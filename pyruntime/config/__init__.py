"""Configuration: checked where it is made; nothing else reads files or the environment for it."""

from pyruntime.config.environment import find_cuda_driver, find_onnxruntime
from pyruntime.config.files import read_model_config, read_model_options
from pyruntime.config.model import Memory, ModelConfig, Versions, WarmUp
from pyruntime.config.options import (
    MOST_AUTO_ROWS,
    Batching,
    InstanceGroup,
    ModelOptions,
    Padding,
    ProviderOptions,
)

__all__ = [
    "MOST_AUTO_ROWS",
    "Batching",
    "InstanceGroup",
    "Memory",
    "ModelConfig",
    "ModelOptions",
    "Padding",
    "ProviderOptions",
    "Versions",
    "WarmUp",
    "find_cuda_driver",
    "find_onnxruntime",
    "read_model_config",
    "read_model_options",
]
