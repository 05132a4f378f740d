"""Libraries of CUDA that an execution provider needs: found, and loaded before it is."""

from pyruntime.cuda_libraries.packages import library_folders
from pyruntime.cuda_libraries.preload import (
    Libraries,
    find_libraries,
    library_of,
    preload,
    preload_for,
)
from pyruntime.cuda_libraries.wheels import wheel_conflict

__all__ = [
    "Libraries",
    "find_libraries",
    "library_folders",
    "library_of",
    "preload",
    "preload_for",
    "wheel_conflict",
]
