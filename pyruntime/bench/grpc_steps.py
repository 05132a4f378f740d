"""The ledger's steps over gRPC: a server in a process of its own, and calls to it.

Run as a program it is that server: it reads what to serve as a line of JSON, prints where it
listens, then answers each model's name with that model's statistics until its input ends.
"""

import functools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime import _probe
from pyruntime.bench.figures import Slice
from pyruntime.bench.request_bytes import request_bytes
from pyruntime.bench.steps import Callers, StatsSums
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.config import ModelOptions
from pyruntime.errors import EngineError, Unavailable

if TYPE_CHECKING:
    from pyruntime.model import Model

__all__ = ["Codec", "GrpcStep", "Server"]

KINDS = ("unix", "tcp")
_DRAIN_S = 5.0


class Codec:
    """The protocol's codec alone, on the requests and answers of one model."""

    def __init__(self, model: "Model", inputs: Inputs) -> None:
        self._registry = model._runtime._native.capsule
        self._request = request_bytes(model.name, str(model.version), model.inputs, inputs)

    def measure(self, seconds: float) -> float:
        """Microseconds to decode a request and to encode its response."""
        _, _, times_ns = _probe.measure_codec(self._registry, self._request, seconds)
        return float(np.median(times_ns)) / 1e3


def _from_raw(raw: bytes, dtype: str, shape: Sequence[int]) -> Array:
    if dtype != "string":
        return np.frombuffer(raw, "uint16" if dtype == "bfloat16" else dtype).reshape(shape)
    array, at = np.empty(int(np.prod(shape)), object), 0
    for index in range(array.size):
        size = int.from_bytes(raw[at : at + 4], "little")
        array[index] = raw[at + 4 : at + 4 + size]
        at += 4 + size
    return array.reshape(shape)


class Server:
    """Serves one model over both kinds of socket, under a name for each, in its own process."""

    def __init__(self, path: str, options: dict[str, Any], in_flight: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pyruntime-ledger-")
        # -P: a folder here that is called pyruntime must not take the package's place.
        command = [sys.executable, "-P", "-m", "pyruntime.bench.grpc_steps"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        unix = f"unix:{self._folder.name}/socket"
        self._told = {
            "path": str(Path(path).absolute()),
            "options": options,
            "in_flight": in_flight,
            "addresses": {"unix": unix, "tcp": "127.0.0.1:0"},
        }
        self.addresses: dict[str, str] = {}

    def start(self) -> None:
        """Wait until it listens. Raises Unavailable with its reason."""
        answer = self._ask(self._told)
        if "error" in answer:
            raise Unavailable(answer["error"])
        self.addresses = answer["addresses"]

    def stats(self, kind: str) -> StatsSums:
        """Of the model behind that kind of socket."""
        answer = self._ask(kind)
        return StatsSums(answer["requests"], answer["ns"])

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(2 * _DRAIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def _ask(self, message: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Unavailable(f"the gRPC server ended with exit status {self._process.wait()}")
        return json.loads(answer)


class GrpcStep:
    """Unary calls over one connection, bytes to bytes, each caller on a thread of its own."""

    def __init__(
        self,
        kind: str,
        server: Server,
        model: "Model",
        inputs: Inputs,
        callers: Callers,
        codec: Codec,
    ) -> None:
        import grpc

        from pyruntime.frontends import protocol

        self.name = f"gRPC {kind}"
        self._kind = kind
        self._server = server
        self._outputs = model.outputs
        self._callers = callers
        self._codec = codec
        self._response_class = protocol.response_class("ModelInfer")
        options = (
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._channel = grpc.insecure_channel(server.addresses[kind], options)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(protocol.path("ModelInfer"))
        self._call = functools.partial(call, request_bytes(kind, "", model.inputs, inputs))

    def outputs(self) -> list[Array]:
        """See Step."""
        response = self._response_class.FromString(self._call())
        if len(response.raw_output_contents) != len(self._outputs):
            raise EngineError(
                f"{self.name}: expected {len(self._outputs)} outputs with raw contents, "
                f"got {len(response.raw_output_contents)}"
            )
        raw = {
            output.name: (data, output.shape)
            for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
        }
        return [
            _from_raw(raw[spec.name][0], spec.dtype, raw[spec.name][1]) for spec in self._outputs
        ]

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """See Step."""
        codec_us = self._codec.measure(seconds / 8)
        before = self._server.stats(self._kind)
        times_ns, elapsed_ns = self._callers.repeat(self._call, in_flight, seconds)
        parts = self._server.stats(self._kind).us_since(before)
        parts["codec"] = codec_us
        return Slice(len(times_ns), elapsed_ns, times_ns, parts, "transport")

    def close(self) -> None:
        """See Step."""
        self._channel.close()


def _serve() -> None:
    """Be the server."""
    from pyruntime.errors import PyRuntimeError
    from pyruntime.frontends import FrontEndOptions, front_end
    from pyruntime.runtime import Runtime

    # Ctrl-C reaches both processes; this one ends when the other closes its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say(answer: object) -> None:
        print(json.dumps(answer), flush=True)

    told = json.loads(sys.stdin.readline())
    addresses: dict[str, str] = told["addresses"]
    with Runtime() as runtime:
        try:
            options = ModelOptions.from_mapping(told["options"])
            models = {kind: runtime.load(kind, told["path"], options=options) for kind in addresses}
            server = front_end("grpc")(
                runtime,
                FrontEndOptions(
                    addresses=tuple(addresses.values()),
                    max_message_bytes=(1 << 31) - 1,
                    max_inferences=max(64, told["in_flight"]),
                ),
            )
            server.start()
        except (PyRuntimeError, OSError) as error:
            say({"error": str(error)})
            return
        say({"addresses": dict(zip(addresses, server.addresses, strict=True))})
        for line in sys.stdin:
            sums = StatsSums.of(models[json.loads(line)])
            say({"requests": sums.requests, "ns": sums.ns})
        server.drain(_DRAIN_S)
        server.stop()


if __name__ == "__main__":
    _serve()
