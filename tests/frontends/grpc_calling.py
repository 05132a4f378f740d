"""Calling a server, and models that echo."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from pyruntime import Batching, InstanceGroup, ModelOptions, TensorSpec
from pyruntime.client import infer_request
from pyruntime.frontends import protocol

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


def echo(
    *specs: TensorSpec, instances: int = 1, max_rows: int = 32, **config: object
) -> ModelOptions:
    """Options of a model whose output_<i> is input i."""
    return ModelOptions(
        engine="echo",
        echo_inputs=specs or (TensorSpec("x", "float32", (-1, 4)),),
        config={f"echo.{key}": str(value) for key, value in config.items()},
        instances=(InstanceGroup(count=instances),),
        batching=Batching(max_rows=max_rows),
    )


def unary(channel: grpc.Channel, name: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    """Give a call of the protocol, bytes in and bytes out."""
    return channel.unary_unary(protocol.path(name))


def stream(channel: grpc.Channel) -> grpc.StreamStreamMultiCallable[bytes, object]:
    """Give ModelStreamInfer, bytes in and messages out."""
    return channel.stream_stream(
        protocol.path("ModelStreamInfer"),
        response_deserializer=protocol.response_class("ModelStreamInfer").FromString,
    )


def code_of(call: object, *args: object, **keywords: object) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **keywords)  # type: ignore[operator]
    return caught.value.code(), caught.value.details()  # type: ignore[attr-defined]


def assert_lives_on(channel: grpc.Channel) -> None:
    """The next good request is answered well."""
    request = infer_request("echo", {"x": ROWS}).SerializeToString()
    answer = protocol.response_class("ModelInfer").FromString(
        unary(channel, "ModelInfer")(request, timeout=10)
    )
    assert answer.raw_output_contents[0] == ROWS.tobytes()


def request_bytes(x: np.ndarray = ROWS, model: str = "echo", **fields: object) -> bytes:
    """Serialise a good request for a model that takes x."""
    request = infer_request(model, {"x": x})
    for name, value in fields.items():
        setattr(request, name, value)
    return request.SerializeToString()
