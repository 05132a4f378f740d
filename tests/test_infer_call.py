"""One protocol call through the core: bytes in, bytes out, cancelled when and where one likes."""

import concurrent.futures
import threading
import time

import numpy as np
import pytest
from models_for_tests import echo
from tritonclient.grpc import service_pb2

import pyruntime
from pyruntime import errors
from pyruntime._core import InferCall, data_type_protocol_name


def request(value: np.ndarray, *, model: str = "m", version: str = "") -> bytes:
    message = service_pb2.ModelInferRequest(model_name=model, model_version=version, id="seven")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=value.shape)
    assert tensor.name == "x"
    message.raw_input_contents.append(value.tobytes())
    return message.SerializeToString()


def result(response: bytes) -> np.ndarray:
    message = service_pb2.ModelInferResponse.FromString(response)
    assert message.id == "seven"
    shape = list(message.outputs[0].shape)
    return np.frombuffer(message.raw_output_contents[0], "f4").reshape(shape)


@pytest.fixture
def runtime():
    with pyruntime.Runtime() as runtime:
        yield runtime


VALUE = np.arange(8, dtype="f4").reshape(2, 4)


@pytest.mark.parametrize("shape", [(1, 4), (100_000, 4), (0, 4)])
def test_a_call_answers_in_bytes(runtime, shape) -> None:
    runtime.load("m", options=echo())
    value = np.random.default_rng(1).random(shape, "f4")
    call = InferCall(runtime._native)
    assert call.id == call.model_name == ""
    np.testing.assert_array_equal(result(call.infer(request(value))), value)
    assert (call.id, call.model_name) == ("seven", "m")
    future = InferCall(runtime._native).submit(request(value), 10_000_000)
    np.testing.assert_array_equal(result(future.result(10)), value)


def test_a_call_is_used_once(runtime) -> None:
    runtime.load("m", options=echo())
    call = InferCall(runtime._native)
    call.infer(request(VALUE))
    for use in (call.infer, call.submit):
        with pytest.raises(errors.InvalidInput, match="expected one request, got a second"):
            use(request(VALUE))


def test_what_is_wrong_is_raised(runtime) -> None:
    runtime.load("m", options=echo(fail_value=13))
    for data, error in [
        (b"\xff\xff", errors.InvalidInput),
        (request(VALUE, model="other"), errors.ModelNotFound),
        (request(VALUE, version="9"), errors.ModelNotFound),
        (request(VALUE[:, :3]), errors.InvalidInput),
    ]:
        for name in ("infer", "submit"):
            with pytest.raises(error):
                getattr(InferCall(runtime._native), name)(data)
    with pytest.raises(errors.EngineError):
        InferCall(runtime._native).infer(request(VALUE + 13))
    future = InferCall(runtime._native).submit(request(VALUE + 13))
    with pytest.raises(errors.EngineError):
        future.result(10)


def test_a_deadline_counts(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=50_000, max_rows=2))
    model.infer({"x": VALUE})  # from now on it knows what a run costs
    first = model.submit({"x": VALUE})
    with pytest.raises(errors.DeadlineExceeded):
        InferCall(runtime._native).infer(request(VALUE), 1000)
    assert first.result(5)


def test_cancelling_before_during_and_after(runtime) -> None:
    model = runtime.load("m", options=echo(delay_us=50_000, max_rows=2))
    before = InferCall(runtime._native)
    before.cancel()
    for name in ("infer", "submit"):
        call = InferCall(runtime._native)
        call.cancel()
        with pytest.raises(errors.Cancelled):
            getattr(call, name)(request(VALUE))

    first = model.submit({"x": VALUE})
    during = InferCall(runtime._native)
    timer = threading.Timer(0.01, during.cancel)
    timer.start()
    with pytest.raises(errors.Cancelled):
        during.infer(request(VALUE))
    timer.join()
    assert first.result(5)

    first = model.submit({"x": VALUE})
    call = InferCall(runtime._native)
    future = call.submit(request(VALUE))
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(5)
    call.cancel()

    call = InferCall(runtime._native)
    future = call.submit(request(VALUE))
    call.cancel()  # not through the future: an error like any other
    with pytest.raises(errors.Cancelled):
        future.result(5)
    assert first.result(5)

    after = InferCall(runtime._native)
    after.infer(request(VALUE))
    after.cancel()


def test_the_gil_is_free_meanwhile(runtime) -> None:
    runtime.load("m", options=echo(delay_us=200_000))
    thread = threading.Thread(target=InferCall(runtime._native).infer, args=(request(VALUE),))
    thread.start()
    progress = 0
    while thread.is_alive():
        time.sleep(0.001)
        progress += 1
    assert progress > 30


def test_a_call_may_be_dropped_while_it_runs(runtime) -> None:
    runtime.load("m", options=echo(delay_us=10_000, max_rows=2))
    futures = [InferCall(runtime._native).submit(request(VALUE)) for _ in range(5)]
    for future in futures:
        np.testing.assert_array_equal(result(future.result(10)), VALUE)


def test_dtypes_have_the_protocols_names() -> None:
    assert data_type_protocol_name("float32") == "FP32"
    assert data_type_protocol_name("string") == "BYTES"
    assert data_type_protocol_name("bfloat16") == "BF16"
    with pytest.raises(errors.InvalidInput, match="got 'float'"):
        data_type_protocol_name("float")
