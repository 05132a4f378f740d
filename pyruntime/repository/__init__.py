"""Models in folders: what is there, what of it is loaded, and what becomes of it.

from pyruntime.repository import ModelRepository

with ModelRepository("models") as repository:
    outputs = repository.runtime.model("digits").infer({"pixels": pixels})
"""

from pyruntime.config.model import Memory, ModelConfig, Versions, WarmUp
from pyruntime.config.repository import RepositoryOptions
from pyruntime.repository.model_repository import ModelRepository
from pyruntime.repository.scan import FoundModel, FoundVersion, scan
from pyruntime.repository.status import State, VersionStatus

__all__ = [
    "FoundModel",
    "FoundVersion",
    "Memory",
    "ModelConfig",
    "ModelRepository",
    "RepositoryOptions",
    "State",
    "VersionStatus",
    "Versions",
    "WarmUp",
    "scan",
]
