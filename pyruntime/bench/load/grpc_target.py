"""What all load over gRPC has in common: single calls, and a look at the server."""

from collections.abc import Mapping

from pyruntime.bench.load.process import ServerProcess
from pyruntime.bench.load.target import OnDone, Usage
from pyruntime.client import Client
from pyruntime.errors import PyRuntimeError

__all__ = ["GrpcTarget"]

_CHECK_S = 60.0


class GrpcTarget:
    """As much of Target as needs no load. The client is closed with it."""

    def __init__(self, address: str, model: str, request: bytes, client: Client) -> None:
        """Send one request to see that it is answered; raises what that fails with.

        request: ModelInferRequest, serialised.
        """
        self._model = model
        self._request = request
        self._client = client
        try:
            # As protobuf wrote it, of whatever server.
            self._answer = client.infer_raw(request, timeout_s=_CHECK_S)
        except BaseException:
            client.close()
            raise
        self._process = ServerProcess.listening_on(address)
        self._says_batches = True

    def submit(self, on_done: OnDone) -> None:
        """See Target."""
        self._client.start_raw(
            self._request, lambda error: on_done(None if error is None else error.code)
        )

    def usage(self) -> Usage:
        """See Target; of the process that listens there, if it is on this machine."""
        return self._process.usage() if self._process else Usage()

    def batches(self) -> Mapping[int, int] | None:
        """See Target; by Triton's call ModelStatistics."""
        if not self._says_batches:
            return None
        try:
            answer = self._client.statistics(self._model, timeout_s=_CHECK_S)
        except PyRuntimeError:
            self._says_batches = False
            return None
        sums: dict[int, int] = {}
        for stats in answer.model_stats:
            for batch in stats.batch_stats:
                count = batch.compute_infer.count
                sums[batch.batch_size] = sums.get(batch.batch_size, 0) + count
        return sums

    def explain(self) -> str:
        """See Target."""
        try:
            self._client.infer_raw(self._request, timeout_s=_CHECK_S)
        except PyRuntimeError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """See Target."""
        self._client.close()
