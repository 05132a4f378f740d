"""Configuration: checked where it is made; nothing else reads files or the environment for it."""

from pyruntime.config.environment import find_onnxruntime
from pyruntime.config.files import read_model_options
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
    "ModelOptions",
    "Padding",
    "ProviderOptions",
    "find_onnxruntime",
    "read_model_options",
]
