"""The steps of the overhead ledger that no Python may be in."""

from typing import Any, final

import numpy as np

from pyruntime.config import ModelOptions

# (dtype, shape, contiguous buffer; of strings a list of bytes)
_Tensor = tuple[str, tuple[int, ...], Any]
# (requests, ns that they took together, ns of each or of a sample)
_Slice = tuple[int, int, np.ndarray[Any, np.dtype[np.int64]]]

# pybind11's own metaclass.
class _Type(type): ...

@final
class Inputs(metaclass=_Type):
    """The inputs of one request, in the order of the model's signature."""

    def __init__(self, tensors: list[_Tensor]) -> None: ...

@final
class BareSession(metaclass=_Type):
    """ONNX Runtime alone."""

    def __init__(self, path: str, options: ModelOptions) -> None: ...

@final
class BareRun(metaclass=_Type):
    """C Run on fixed values, with outputs allocated before."""

    def __init__(self, session: BareSession, inputs: Inputs) -> None: ...
    def measure(self, seconds: float) -> _Slice: ...
    def outputs(self) -> list[_Tensor]: ...

@final
class Core(metaclass=_Type):
    """The core, called from C++."""

    def __init__(self, model: object, inputs: Inputs) -> None: ...
    def measure(self, in_flight: int, seconds: float) -> _Slice: ...
    def outputs(self) -> list[_Tensor]: ...

def measure_codec(registry: object, request: bytes, seconds: float) -> _Slice: ...
