"""Bad requests over gRPC: a clear status, and the next good request is answered."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_calling import ROWS, assert_lives_on, code_of, echo, request_bytes, stream, unary

from pyruntime import TensorSpec
from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime import Runtime

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Request = protocol.request_class("ModelInfer")


def two_rows(**fields: Any) -> Any:
    """Build a good request, apart from `fields` of its input."""
    request = Request.FromString(request_bytes())
    for name, value in fields.items():
        if name == "shape":
            del request.inputs[0].shape[:]
            request.inputs[0].shape.extend(value)
        else:
            setattr(request.inputs[0], name, value)
    return request


def without_inputs() -> Any:
    return Request(model_name="echo")


def with_extra_input() -> Any:
    request = two_rows()
    request.inputs.add(name="y", datatype="FP32", shape=[2, 4])
    request.raw_input_contents.append(ROWS.tobytes())
    return request


def with_duplicate_input() -> Any:
    request = two_rows()
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(ROWS.tobytes())
    return request


def with_raw_and_typed() -> Any:
    request = two_rows()
    request.inputs[0].contents.fp32_contents.extend([0.0] * 8)
    return request


def with_bytes(raw: bytes) -> Any:
    request = two_rows()
    request.raw_input_contents[0] = raw
    return request


def with_unknown_output() -> Any:
    request = two_rows()
    request.outputs.add(name="nothing")
    return request


def with_too_many_values() -> Any:
    request = two_rows()
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend([0.0] * 9)
    return request


def with_values_of_another_type() -> Any:
    request = two_rows()
    del request.raw_input_contents[:]
    request.inputs[0].contents.int64_contents.extend([0] * 8)
    return request


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "a missing input": (without_inputs, "x"),
    "an extra input": (with_extra_input, "y"),
    "a duplicate input": (with_duplicate_input, "x"),
    "a misnamed input": (lambda: two_rows(name="z"), "z"),
    "a wrong dtype": (lambda: two_rows(datatype="INT32"), "x"),
    "an unknown dtype": (lambda: two_rows(datatype="FP31"), "FP31"),
    "a wrong rank": (lambda: two_rows(shape=[2, 2, 2]), "x"),
    "a wrong dimension": (lambda: two_rows(shape=[4, 2]), "x"),
    "a scalar": (lambda: two_rows(shape=[]), "x"),
    "too few bytes": (lambda: with_bytes(ROWS.tobytes()[:-1]), "x"),
    "too many bytes": (lambda: with_bytes(ROWS.tobytes() + b"1234"), "x"),
    "no bytes": (lambda: with_bytes(b""), "x"),
    "raw and typed contents": (with_raw_and_typed, ""),
    "too many typed values": (with_too_many_values, "x"),
    "typed values of another type": (with_values_of_another_type, "x"),
    "2 GB of shape and 4 bytes": (lambda: two_rows(shape=[1 << 27, 4]), "x"),
    "a negative dimension": (lambda: two_rows(shape=[-2, -4]), "x"),
    "overflowing dimensions": (lambda: two_rows(shape=[1 << 62, 4]), "x"),
    "an unknown output": (with_unknown_output, "nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request_is_refused_with_its_reason(channel: grpc.Channel, case: str) -> None:
    make, named = BAD[case]
    code, message = code_of(unary(channel, "ModelInfer"), make().SerializeToString(), timeout=10)
    assert code == INVALID, message
    assert named in message
    assert len(message) > 10
    assert_lives_on(channel)


@pytest.mark.parametrize("case", BAD)
def test_bad_request_in_a_stream_leaves_the_stream_open(channel: grpc.Channel, case: str) -> None:
    bad = BAD[case][0]()
    bad.id = "the bad one"
    requests = [request_bytes(id="1"), bad.SerializeToString(), request_bytes(id="2")]
    answers = list(stream(channel)(iter(requests), timeout=20))
    assert [answer.infer_response.id for answer in answers] == ["1", "the bad one", "2"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert answers[1].error_message.startswith("InvalidInput: ")


def test_batch_without_rows_is_answered_without_rows(channel: grpc.Channel) -> None:
    answer = unary(channel, "ModelInfer")(request_bytes(np.zeros((0, 4), np.float32)), timeout=10)
    response = protocol.response_class("ModelInfer").FromString(answer)
    assert list(response.outputs[0].shape) == [0, 4]
    assert_lives_on(channel)


def test_invalid_utf8_is_refused(channel: grpc.Channel) -> None:
    request = request_bytes().replace(b"echo", b"\xff\xfe\xfd\xfc")
    code, _ = code_of(unary(channel, "ModelInfer"), request)
    assert code in (INVALID, grpc.StatusCode.NOT_FOUND)
    assert_lives_on(channel)


def test_every_truncation_is_answered_and_nothing_is_lost(channel: grpc.Channel) -> None:
    call, request = unary(channel, "ModelInfer"), request_bytes()
    for size in range(len(request)):
        code, _ = code_of(call, request[:size], timeout=10)
        assert code in (INVALID, grpc.StatusCode.NOT_FOUND)
    assert_lives_on(channel)


def test_random_bytes_are_answered_and_nothing_is_lost(channel: grpc.Channel) -> None:
    call, rng = unary(channel, "ModelInfer"), random.Random(1)
    for _ in range(300):
        code, _ = code_of(call, rng.randbytes(rng.randrange(200)), timeout=10)
        assert code in (INVALID, grpc.StatusCode.NOT_FOUND)
    assert_lives_on(channel)


def test_string_lengths_that_lie_are_refused(channel: grpc.Channel) -> None:
    for raw in (b"\x05\0\0\0ab", b"\xff\xff\xff\xff", b"\0\0\0", b"\x01\0\0\0ab"):
        request = Request(model_name="words", raw_input_contents=[raw])
        request.inputs.add(name="text", datatype="BYTES", shape=[1])
        code, _ = code_of(unary(channel, "ModelInfer"), request.SerializeToString())
        assert code == INVALID
    assert_lives_on(channel)


def test_message_above_the_limit_is_refused(servers: Any) -> None:
    (address,) = servers.start(max_message_bytes=1 << 16).addresses
    with grpc.insecure_channel(address) as channel:
        big = request_bytes(np.zeros((1 << 13, 4), np.float32))
        code, _ = code_of(unary(channel, "ModelInfer"), big)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert_lives_on(channel)


def test_large_message_below_the_limit_is_answered(servers: Any) -> None:
    (address,) = servers.start().addresses
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        big = np.arange(1 << 22, dtype=np.float32).reshape(-1, 4)  # 16 MiB
        answer = unary(channel, "ModelInfer")(request_bytes(big), timeout=60)
        response = protocol.response_class("ModelInfer").FromString(answer)
        assert response.raw_output_contents[0] == big.tobytes()


# Faults of other servers


def test_shapes_mixed_at_once_are_each_answered_with_their_own(
    runtime: Runtime, channel: grpc.Channel
) -> None:
    runtime.load("any", options=echo(TensorSpec("x", "float32", (-1, -1)), delay_us=2000))
    call = unary(channel, "ModelInfer")
    sent = [np.full((1, 63 + i % 3), i, np.float32) for i in range(30)]
    futures = [call.future(request_bytes(x, "any"), timeout=20) for x in sent]
    for x, future in zip(sent, futures, strict=True):
        response = protocol.response_class("ModelInfer").FromString(future.result())
        assert tuple(response.outputs[0].shape) == x.shape
        assert response.raw_output_contents[0] == x.tobytes()


def test_bad_shape_among_good_ones_fails_alone(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.load("slow", options=echo(delay_us=20_000))
    call = unary(channel, "ModelInfer")
    sent = [np.full((1, 5 if i == 3 else 4), i, np.float32) for i in range(8)]
    futures = [call.future(request_bytes(x, "slow"), timeout=20) for x in sent]
    for i, (x, future) in enumerate(zip(sent, futures, strict=True)):
        if i == 3:
            assert code_of(future.result)[0] == INVALID
        else:
            response = protocol.response_class("ModelInfer").FromString(future.result())
            assert response.raw_output_contents[0] == x.tobytes()


def test_member_that_the_model_refuses_fails_alone(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.load("picky", options=echo(delay_us=20_000, fail_value=3))
    call = unary(channel, "ModelInfer")
    sent = [np.full((1, 4), i, np.float32) for i in range(8)]
    futures = [call.future(request_bytes(x, "picky"), timeout=20) for x in sent]
    for i, (x, future) in enumerate(zip(sent, futures, strict=True)):
        if i == 3:
            code, message = code_of(future.result)
            assert code == grpc.StatusCode.INTERNAL
            assert "picky" in message
        else:
            response = protocol.response_class("ModelInfer").FromString(future.result())
            assert response.raw_output_contents[0] == x.tobytes()
