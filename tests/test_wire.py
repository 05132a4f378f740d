"""The codec of ModelInfer, against protobuf's own and against whatever Hypothesis thinks up."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pyruntime
from pyruntime import ModelOptions, Runtime, TensorSpec
from pyruntime._core import InferCall
from pyruntime.frontends.protocol import message_class

if TYPE_CHECKING:
    from collections.abc import Iterator

# A machine may be busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ModelInferRequest = message_class("ModelInferRequest")
ModelInferResponse = message_class("ModelInferResponse")

# dtype: the protocol's name, the field of typed contents ("" where there is none).
NUMBERS = {
    "bool": ("BOOL", "bool_contents"),
    "int8": ("INT8", "int_contents"),
    "int16": ("INT16", "int_contents"),
    "int32": ("INT32", "int_contents"),
    "int64": ("INT64", "int64_contents"),
    "uint8": ("UINT8", "uint_contents"),
    "uint16": ("UINT16", "uint_contents"),
    "uint32": ("UINT32", "uint_contents"),
    "uint64": ("UINT64", "uint64_contents"),
    "float16": ("FP16", ""),
    "float32": ("FP32", "fp32_contents"),
    "float64": ("FP64", "fp64_contents"),
}
TYPED = [dtype for dtype, (_, contents) in NUMBERS.items() if contents]

arrays = {
    dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6), fill=st.nothing()
    )
    for dtype in NUMBERS
}


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """Serves an echo model for every dtype, by its name."""
    with Runtime() as serving:
        for dtype in (*NUMBERS, "bfloat16", "string"):
            echo = (TensorSpec("x", dtype, (-1, -1)),)
            serving.load(dtype, None, options=ModelOptions(engine="echo", echo_inputs=echo))
        yield serving


def serve(runtime: Runtime, request: Any) -> Any:
    serialised = request if isinstance(request, bytes) else request.SerializeToString()
    return ModelInferResponse.FromString(InferCall(runtime._native).infer(serialised))


def outcome(runtime: Runtime, request: Any) -> Any:
    """The response, or the error that came instead."""
    try:
        return serve(runtime, request)
    except pyruntime.PyRuntimeError as error:
        return error


def request_for(dtype: str, datatype: str, shape: tuple[int, ...], **fields: Any) -> Any:
    request = ModelInferRequest(model_name=dtype, **fields)
    tensor = request.inputs.add(name="x", datatype=datatype)
    tensor.shape.extend(shape)
    return request


def good_request() -> Any:
    return request_for("int8", "INT8", (1, 2), raw_input_contents=[b"ab"])


def strings_of(raw: bytes) -> list[bytes]:
    strings = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        strings.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return strings


@given(data=st.data(), dtype=st.sampled_from(sorted(NUMBERS)), text=st.text(max_size=20))
def test_raw_numbers_come_back_as_they_went_in(
    runtime: Runtime, data: st.DataObject, dtype: str, text: str
) -> None:
    array = data.draw(arrays[dtype])
    request = request_for(
        dtype, NUMBERS[dtype][0], array.shape, id=text, raw_input_contents=[array.tobytes()]
    )
    response = serve(runtime, request)
    assert (response.id, response.model_name, response.model_version) == (text, dtype, "1")
    (output,) = response.outputs
    assert (output.datatype, tuple(output.shape)) == (NUMBERS[dtype][0], array.shape)
    assert not output.HasField("contents")
    assert list(response.raw_output_contents) == [array.tobytes()]


@given(data=st.data(), dtype=st.sampled_from(sorted(TYPED)))
def test_typed_numbers_come_back_as_they_went_in(
    runtime: Runtime, data: st.DataObject, dtype: str
) -> None:
    array = data.draw(arrays[dtype])
    datatype, contents = NUMBERS[dtype]
    request = request_for(dtype, datatype, array.shape)
    getattr(request.inputs[0].contents, contents).extend(array.ravel().tolist())
    response = serve(runtime, request)
    assert not response.raw_output_contents
    (output,) = response.outputs
    answered = np.array(list(getattr(output.contents, contents)), dtype).reshape(output.shape)
    np.testing.assert_array_equal(answered, array)


@given(strings=st.lists(st.binary(max_size=40), max_size=8), is_raw=st.booleans())
@example(strings=[b"a\0b", b"", b"\xff"], is_raw=True)
def test_strings_keep_every_byte(runtime: Runtime, strings: list[bytes], is_raw: bool) -> None:
    request = request_for("string", "BYTES", (len(strings), 1))
    if is_raw:
        request.raw_input_contents.append(
            b"".join(struct.pack("<I", len(string)) + string for string in strings)
        )
        assert strings_of(serve(runtime, request).raw_output_contents[0]) == strings
    else:
        request.inputs[0].contents.bytes_contents.extend(strings)
        assert list(serve(runtime, request).outputs[0].contents.bytes_contents) == strings


@given(
    dtype=st.sampled_from(sorted((*NUMBERS, "bfloat16", "string"))),
    datatype=st.sampled_from([*(name for name, _ in NUMBERS.values()), "BF16", "BYTES", "FP31"]),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 4), max_size=20),
    raw=st.binary(max_size=64),
)
@example(dtype="float32", datatype="FP32", shape=[2**29, 1], raw=b"1234")
def test_a_tensor_is_served_only_if_its_type_shape_and_bytes_agree(
    runtime: Runtime, dtype: str, datatype: str, shape: list[int], raw: bytes
) -> None:
    request = request_for(dtype, datatype, tuple(shape), raw_input_contents=[raw])
    response = outcome(runtime, request)
    if isinstance(response, Exception):
        assert isinstance(response, pyruntime.InvalidInput)
        assert "input 'x'" in str(response)
    else:
        (output,) = response.outputs
        assert (output.datatype, list(output.shape)) == (datatype, shape)
        assert len(shape) == 2
        elements = shape[0] * shape[1]
        if dtype == "string":
            assert len(strings_of(raw)) == elements
        elif dtype == "bfloat16":
            assert len(raw) == 2 * elements
        else:
            assert len(raw) == np.dtype(dtype).itemsize * elements
    assert serve(runtime, good_request()).raw_output_contents[0] == b"ab"


scalars = st.booleans() | st.integers() | st.text(max_size=5) | st.floats()


@given(name=st.text(max_size=12) | st.sampled_from(["priority", "timeout"]), value=scalars)
def test_parameters_are_ignored_understood_or_refused_by_name(
    runtime: Runtime, name: str, value: Any
) -> None:
    request = good_request()
    parameter = request.parameters[name]
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif value < 0:
        parameter.int64_param = max(value, -(2**63))
    else:
        parameter.uint64_param = min(value, 2**64 - 1)
    response = outcome(runtime, request)
    if isinstance(response, pyruntime.InvalidInput):
        assert name in ("priority", "timeout")
        assert name in str(response)
    elif isinstance(response, pyruntime.DeadlineExceeded):
        assert name == "timeout"
    else:
        assert isinstance(response, ModelInferResponse)


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "sequence_end"])
def test_sequences_are_not_implemented(runtime: Runtime, name: str) -> None:
    request = good_request()
    request.parameters[name].int64_param = 1
    with pytest.raises(pyruntime.Unimplemented, match=name):
        serve(runtime, request)


@st.composite
def changed_requests(draw: st.DrawFn) -> bytes:
    """A good request, spoiled."""
    if draw(st.booleans()):
        request = good_request()
    else:
        request = request_for("string", "BYTES", (1, 2))
        request.inputs[0].contents.bytes_contents.extend([b"a", b"bc"])
    request.outputs.add(name="output_0")
    request.parameters["timeout"].int64_param = 10**9
    serialised = bytearray(request.SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(serialised)))
        gone = draw(st.integers(0, 3))
        serialised[at : at + gone] = draw(st.binary(max_size=4))
    return bytes(serialised)


@settings(max_examples=500)
@given(serialised=st.binary(max_size=200) | changed_requests())
def test_any_bytes_are_served_or_refused_as_protobuf_would(
    runtime: Runtime, serialised: bytes
) -> None:
    try:
        theirs = ModelInferRequest.FromString(serialised)
    except DecodeError:
        theirs = None
    response = outcome(runtime, serialised)
    if isinstance(response, Exception):
        refusals = (pyruntime.InvalidInput, pyruntime.ModelNotFound, pyruntime.DeadlineExceeded)
        assert isinstance(response, refusals)
        assert str(response)
    else:
        assert theirs is not None
        assert response.id == theirs.id
        assert response.model_name == theirs.model_name
        tensor = theirs.inputs[0]
        assert list(response.outputs[0].shape) == list(tensor.shape)
        assert list(response.raw_output_contents) == list(theirs.raw_input_contents)
        assert response.outputs[0].contents.bytes_contents == tensor.contents.bytes_contents
    assert serve(runtime, good_request()).raw_output_contents[0] == b"ab"
