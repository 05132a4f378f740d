"""Load on any server of the Open Inference Protocol, version 2, over gRPC.

Requests are serialised once and sent from C++; Python's gRPC module only looks at the server.
"""

import dataclasses

import numpy as np

from pyruntime import _probe
from pyruntime.bench.load.grpc_target import GrpcTarget
from pyruntime.bench.load.target import LoadResult, Times, from_native
from pyruntime.client import Client
from pyruntime.frontends import protocol

__all__ = ["OverGrpc"]

_CONNECT_S = 5.0
_LIMIT_S = 0.1
_LEAST_IN_FLIGHT = 32


class OverGrpc(GrpcTarget):
    """See Target."""

    def __init__(
        self,
        address: str,
        model: str,
        request: bytes,
        *,
        threads: int = 1,
        connections: int = 1,
        patience_s: float = 60.0,
        service: str = protocol.SERVICE,
    ) -> None:
        """Send one request to see that it is answered; raises what that fails with.

        request: ModelInferRequest, serialised. threads: that generate; connections: of each.
        service: its name on the wire.
        """
        super().__init__(address, model, request, Client(address, service=service))
        self._threads = threads
        self._connections = connections
        self._patience_s = patience_s
        self._path = protocol.path("ModelInfer", service)
        self._load = self._make_load(address)
        self._limits: dict[bool, float] = {}

    def closed(self, in_flight: int, seconds: float) -> LoadResult:
        """See Target."""
        seen = self._load.closed(in_flight, seconds)
        result = from_native(seen)
        if seen["peak_in_flight"] >= in_flight or result.ended:
            return result
        note = (
            f"the server took {seen['peak_in_flight']} calls at once and not {in_flight}: it "
            "limits those of a connection; give more --connections"
        )
        return dataclasses.replace(result, notes=(note,))

    def open(self, times_ns: Times, seconds: float) -> LoadResult:
        """See Target."""
        return from_native(self._load.open(times_ns, seconds))

    def limit(self, *, is_open: bool, in_flight: int) -> float | None:
        """See Target; with many in flight, since one alone shows the socket and not what sends."""
        if is_open not in self._limits:
            responder = _probe.GrpcResponder(self._answer, np.empty(0, np.int64), 0, 0, 0, 0)
            try:
                load = self._make_load(responder.address)
                seen = load.closed(max(in_flight, _LEAST_IN_FLIGHT), _LIMIT_S)
            finally:
                responder.close()
            self._limits[is_open] = from_native(seen).requests_per_s
        return self._limits[is_open]

    def _make_load(self, address: str) -> _probe.GrpcLoad:
        return _probe.GrpcLoad(
            address,
            self._path,
            self._request,
            self._threads,
            self._connections,
            _CONNECT_S,
            self._patience_s,
        )
