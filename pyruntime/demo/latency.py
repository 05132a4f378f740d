"""How long one call takes, one after another.

Run as a program it measures calls over gRPC from a process of its own, as a client would:
python -m pyruntime.demo.latency ADDRESS... prints nanoseconds as JSON, by address.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyruntime.demo import MODEL, REPOSITORY, test_images
from pyruntime.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyruntime.runtime import Model

_ROUNDS = 5  # the ways take turns, so that a busy machine slows all of them
_CALLS = 400  # of one way, in one round
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one way of calling, microseconds."""

    p50_us: float
    p99_us: float


def measure_in_process(model: Model) -> dict[str, Latency]:
    """Measure ONNX Runtime's own Python call, and ours, on one image."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    path = REPOSITORY / MODEL / str(model.version) / "model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {"image": test_images().images[:1]}
    times = _take_turns(
        {
            "bare": lambda: session.run(None, inputs),
            "in process": lambda: model.infer(inputs),
        }
    )
    return {way: _latency(ns) for way, ns in times.items()}


def measure_grpc(addresses: Sequence[str]) -> dict[str, Latency]:
    """Measure calls over gRPC on one image, by address, from another process."""
    # -P: a folder here that is called pyruntime must not take the package's place.
    command = [sys.executable, "-P", "-m", "pyruntime.demo.latency", *addresses]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"demo: gRPC client: no result within {_TIMEOUT_S} s") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rpartition("\n")[2]
        raise Unavailable(f"demo: gRPC client: exit status {error.returncode}: {last}") from None
    return {address: _latency(ns) for address, ns in json.loads(done.stdout).items()}


def _take_turns(ways: dict[str, Callable[[], object]]) -> dict[str, list[int]]:
    times: dict[str, list[int]] = {way: [] for way in ways}
    for call in ways.values():  # warm up
        for _ in range(_CALLS // 4):
            call()
    clock = time.perf_counter_ns
    for _ in range(_ROUNDS):
        for way, call in ways.items():
            for _ in range(_CALLS):
                begin = clock()
                call()
                times[way].append(clock() - begin)
    return times


def _latency(ns: list[int]) -> Latency:
    p50, p99 = np.percentile(ns, (50, 99)) / 1000
    return Latency(float(p50), float(p99))


def _main(addresses: Sequence[str]) -> None:
    import grpc

    from pyruntime.client import infer_request
    from pyruntime.frontends import protocol

    request = infer_request(MODEL, {"image": test_images().images[:1]}).SerializeToString()
    channels = {address: grpc.insecure_channel(address) for address in addresses}

    def caller(channel: grpc.Channel) -> Callable[[], object]:
        # Encoding and decoding are a client's own affair: bytes to bytes.
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            protocol.path("ModelInfer")
        )
        return lambda: call(request)

    ways = {address: caller(channel) for address, channel in channels.items()}
    print(json.dumps(_take_turns(ways)))
    for channel in channels.values():
        channel.close()


if __name__ == "__main__":
    _main(sys.argv[1:])
