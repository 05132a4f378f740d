"""Load generators and steps of the overhead ledger that no Python may be in."""

from typing import Any, TypedDict, final

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

# (counts by bucket, least, most and sum in ns); None of nothing
_Histogram = tuple[dict[int, int], int, int, int] | None
_Times = np.ndarray[Any, np.dtype[np.int64]]

class _LoadResult(TypedDict):
    """What a load generator saw."""

    requests: int
    elapsed_ns: int
    latency: _Histogram
    service: _Histogram
    lag: _Histogram
    errors: dict[str, int]
    peak_in_flight: int
    generator_cpu_ns: int
    first_error: str
    ended: str

@final
class ModelLoad(metaclass=_Type):
    """Load on a model in this process."""

    def __init__(self, model: object, inputs: Inputs) -> None: ...
    def closed(self, in_flight: int, seconds: float) -> _LoadResult: ...
    def open(self, times_ns: _Times, seconds: float) -> _LoadResult: ...

def null_closed(in_flight: int, seconds: float) -> _LoadResult: ...
def null_open(times_ns: _Times, seconds: float) -> _LoadResult: ...

@final
class GrpcLoad(metaclass=_Type):
    """Load on a server of gRPC, by one call sent again and again."""

    def __init__(
        self,
        address: str,
        path: str,
        message: bytes,
        threads: int,
        connections: int,
        connect_s: float,
        patience_s: float,
    ) -> None: ...
    def closed(self, in_flight: int, seconds: float) -> _LoadResult: ...
    def open(self, times_ns: _Times, seconds: float) -> _LoadResult: ...

@final
class GrpcResponder(metaclass=_Type):
    """A server that answers every call alike, after known delays."""

    def __init__(
        self,
        message: bytes,
        delays_ns: _Times,
        stall_s: float,
        stall_period_s: float,
        status: int,
        dies_after: int,
    ) -> None: ...
    @property
    def address(self) -> str: ...
    def held(self) -> _Histogram: ...
    def close(self) -> None: ...

def queue_ns(times: int) -> int: ...
def mutex_queue_ns(times: int) -> int: ...
def pool_ns(times: int, size_bytes: int) -> int: ...
def system_memory_ns(times: int, size_bytes: int) -> int: ...
def batcher_ns(times: int, model: object, inputs: Inputs) -> int: ...

@final
class Session(metaclass=_Type):
    """A session, without a scheduler."""

    def __init__(self, path: str, options: ModelOptions, inputs: Inputs) -> None: ...
    def run_ns(self, times: int) -> int: ...
