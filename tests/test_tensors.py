"""Arrays in and out: every dtype and form, shared where possible, else copied once and counted."""

import array
import ctypes
import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from models_for_tests import echo

import pyruntime
from pyruntime import InvalidInput

NUMBERS = [
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
]


@pytest.fixture(scope="module")
def runtime():
    with pyruntime.Runtime() as runtime:
        yield runtime


def load(runtime, dtype: str = "float32", shape: tuple[int, ...] = (-1, 4), **options: Any):
    return runtime.load("echo", options=echo(dtype, shape, **options))


def copied(model, value: Any) -> tuple[np.ndarray, int]:
    """The output for `value`, and how many inputs were copied for it."""
    before = model.stats().inputs_copied
    output = model.infer({"x": value})["output_0"]
    return output, model.stats().inputs_copied - before


# NumPy


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (0, 4), (1000, 4)])
def test_every_dtype_goes_in_and_out(runtime, dtype, shape) -> None:
    model = load(runtime, dtype)
    value = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    output, copies = copied(model, value)
    assert output.dtype == value.dtype
    assert output.shape == shape
    np.testing.assert_array_equal(output, value)
    assert copies == 0


@pytest.mark.parametrize("code", ["l", "q", "L", "Q"])
def test_both_c_types_of_64_bits_are_the_same_dtype(runtime, code) -> None:
    value = np.arange(4, dtype=code).reshape(1, 4)
    model = load(runtime, "int64" if code.islower() else "uint64")
    np.testing.assert_array_equal(copied(model, value)[0], value)


def test_a_scalar_goes_in_and_out(runtime) -> None:
    model = load(runtime, "float64", ())
    for value in (np.array(2.5), np.float64(2.5), 2.5):
        output, copies = copied(model, value)
        assert output.shape == ()
        assert output == 2.5
        assert copies == 0


@pytest.mark.parametrize(
    "value",
    [
        np.arange(32, dtype="f4").reshape(4, 8)[:, ::2],
        np.arange(16, dtype="f4").reshape(4, 4).T,
        np.asfortranarray(np.arange(16, dtype="f4").reshape(4, 4)),
        np.arange(16, dtype=">f4").reshape(4, 4),
        np.frombuffer(bytes(range(65)), "u1")[1:65].view("f4").reshape(4, 4),
        np.broadcast_to(np.float32(3), (2, 4)),
    ],
    ids=["strided", "transposed", "fortran", "byte-swapped", "misaligned", "broadcast"],
)
def test_an_awkward_array_is_copied_once_and_counted(runtime, value) -> None:
    model = load(runtime)
    output, copies = copied(model, value)
    np.testing.assert_array_equal(output, value)
    assert copies == 1


def test_a_read_only_array_and_a_subclass_are_read_in_place(runtime) -> None:
    model = load(runtime)
    value = np.arange(8, dtype="f4").reshape(2, 4)
    value.flags.writeable = False
    for array_ in (value, value.view(np.recarray)):
        output, copies = copied(model, array_)
        np.testing.assert_array_equal(output, value)
        assert copies == 0


@pytest.mark.parametrize(
    "value",
    [np.ones((1, 4)), np.ones((1, 4), "i4"), np.ones((1, 4), ">f8"), np.ones((1, 4), bool)],
)
def test_an_array_of_another_dtype_is_never_cast(runtime, value) -> None:
    model = load(runtime)
    with pytest.raises(InvalidInput, match=r"input 'x': expected float32\[\*, 4\], got "):
        model.infer({"x": value})


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "timedelta64[s]", "longdouble"])
def test_a_dtype_that_no_tensor_has_is_named(runtime, dtype) -> None:
    model = load(runtime)
    with pytest.raises(InvalidInput, match="input 'x': expected float32, got an array of"):
        model.infer({"x": np.zeros((1, 4), dtype)})


# Results


@pytest.mark.parametrize("count", [1, 100_000])
def test_results_are_writable_and_apart(runtime, count) -> None:
    model = load(runtime)
    value = np.ones((count, 4), "f4")
    first = model.infer({"x": value})["output_0"]
    second = model.infer({"x": value})["output_0"]
    assert not np.shares_memory(first, value)
    assert not np.shares_memory(first, second)
    first[:] = 5
    assert second.max() == 1
    assert value.max() == 1
    assert first.flags.c_contiguous
    assert first.flags.aligned


def test_a_large_result_is_the_cores_own_memory(runtime) -> None:
    model = load(runtime)
    result = model.infer({"x": np.ones((100_000, 4), "f4")})["output_0"]
    assert not result.flags.owndata
    assert type(result.base).__name__ == "ResultMemory"
    part = result[5:10]
    del result
    gc.collect()
    assert part.min() == part.max() == 1


def test_results_outlive_their_model_and_runtime() -> None:
    with pyruntime.Runtime() as runtime:
        model = runtime.load("echo", options=echo())
        kept = [model.infer({"x": np.full((5000, 4), i, "f4")})["output_0"] for i in range(8)]
    del runtime, model
    gc.collect()
    for i, result in enumerate(kept):
        assert result.min() == result.max() == i


def test_memory_of_results_is_given_back(runtime) -> None:
    model = load(runtime)
    value = np.ones((100_000, 4), "f4")
    for _ in range(50):
        model.infer({"x": value})
    assert model.stats().pool.used_bytes < 20 * value.nbytes


def test_inputs_are_released_when_the_call_is_over(runtime) -> None:
    class Array(np.ndarray):
        pass

    model = load(runtime)
    for call in (model.infer, lambda inputs: model.submit(inputs).result(10)):
        value = np.ones((1, 4), "f4").view(Array)
        seen = weakref.ref(value)
        call({"x": value})
        del value
        gc.collect()
        assert seen() is None


# bfloat16


def test_bfloat16_is_that_of_ml_dtypes(runtime) -> None:
    model = load(runtime, "bfloat16")
    value = np.arange(8).reshape(2, 4).astype(ml_dtypes.bfloat16)
    output, copies = copied(model, value)
    assert output.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(output, value)
    assert copies == 0
    # The same bits, for callers without ml_dtypes.
    np.testing.assert_array_equal(copied(model, value.view(np.uint16))[0], value)
    np.testing.assert_array_equal(copied(model, [[0, 1, 2, 3.0]])[0], value[:1])
    with pytest.raises(InvalidInput, match=r"expected bfloat16\[\*, 4\], got float32"):
        model.infer({"x": value.astype("f4")})
    with pytest.raises(InvalidInput, match=r"expected float32\[\*, 4\], got bfloat16"):
        load(runtime).infer({"x": value})


# Strings


def test_strings_go_in_as_objects_bytes_and_text(runtime) -> None:
    model = load(runtime, "string", (-1, 2))
    expected = [["a\0b", ""], ["naïve", "日本" * 100]]
    for value in (
        np.array(expected, dtype=object),
        np.array([[item.encode() for item in row] for row in expected], dtype=object),
        expected,
        np.array(expected, dtype="U"),
        np.array(expected, dtype="U").T.copy().T,
        np.array([[item.encode() for item in row] for row in expected], dtype="S"),
        np.array(expected, dtype=np.dtypes.StringDType()),
    ):
        output, _ = copied(model, value)
        assert output.dtype == object
        assert output.tolist() == expected
        assert all(type(item) is str for item in output.flat)


def test_strings_that_are_not_utf8_come_back_as_bytes(runtime) -> None:
    model = load(runtime, "string", (-1,))
    assert copied(model, [b"\xff\0\xfe", "text"])[0].tolist() == [b"\xff\0\xfe", "text"]


def test_a_string_scalar_and_no_strings(runtime) -> None:
    scalar = load(runtime, "string", ())
    for value in ("text", b"text", np.array("text", dtype=object), np.str_("text")):
        output, _ = copied(scalar, value)
        assert output.shape == ()
        assert output.item() == "text"
    assert copied(load(runtime, "string", (-1,)), [])[0].shape == (0,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["a", None], object), "expected string, got NoneType as element 1"),
        (np.array(["a", 3], object), "expected string, got int as element 1"),
        (["a", 3], "expected string, got int as element 1 of list"),
        (np.array(["\ud800"], object), "element 0 that UTF-8 cannot hold"),
    ],
)
def test_what_is_no_string_is_refused(runtime, value, message) -> None:
    model = load(runtime, "string", (-1,))
    with pytest.raises(InvalidInput, match=message):
        model.infer({"x": value})


def test_strings_are_refused_where_numbers_are_expected(runtime) -> None:
    with pytest.raises(InvalidInput, match=r"expected float32\[\*, 4\], got string\[1, 4\]"):
        load(runtime).infer({"x": np.full((1, 4), "a", object)})


# Python's lists and scalars


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", [[1, 2.5], [3, 4]]),
        ("float16", [[1.0, 2.0]]),
        ("float64", [[float("inf"), 1e300]]),
        ("float32", [[float("nan"), float("-inf")]]),
        ("int8", [[-128, 127]]),
        ("uint64", [[0, 2**64 - 1]]),
        ("int64", ((-(2**63), 2**63 - 1),)),
        ("bool", [[True, False]]),
        ("int32", [[np.int64(3), 4]]),
    ],
)
def test_lists_are_converted(runtime, dtype, value) -> None:
    model = load(runtime, dtype, (-1, 2))
    output, copies = copied(model, value)
    np.testing.assert_array_equal(output, np.array(value, dtype))
    assert copies == 0


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", [[1.0, 2.0]]),
        ("int8", [[1, 128]]),
        ("uint8", [[1, -1]]),
        ("float16", [[1.0, 1e6]]),
        ("float32", [[1.0, 1e39]]),
        ("float32", [[1.0, True]]),
        ("float32", [[1.0, "2"]]),
        ("float32", [[1.0, None]]),
        ("float32", [[1.0, 2j]]),
        ("bool", [[1, 0]]),
        ("float32", [[1.0, 2.0], [3.0]]),
        ("float32", object()),
        ("float32", None),
    ],
)
def test_a_list_that_would_lose_something_is_refused(runtime, dtype, value) -> None:
    model = load(runtime, dtype, (-1, 2))
    with pytest.raises(InvalidInput, match=f"input 'x': expected {dtype}, got "):
        model.infer({"x": value})


# The buffer protocol


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", b"\x01\x02\x00\x03"),
        ("uint8", bytearray(b"\x01\x02\x00\x03")),
        ("float32", array.array("f", [1, 2, 3, 4])),
        ("int64", memoryview(array.array("q", [1, 2, 3, 4]))),
        ("float64", (ctypes.c_double * 4)(1, 2, 3, 4)),
    ],
)
def test_a_buffer_is_read_in_place(runtime, dtype, value) -> None:
    model = load(runtime, dtype, (-1,))
    output, copies = copied(model, value)
    assert output.dtype == dtype
    np.testing.assert_array_equal(output, np.asarray(memoryview(value)))
    assert copies == 0


def test_a_strided_buffer_is_copied_and_counted(runtime) -> None:
    model = load(runtime, "uint8", (-1,))
    output, copies = copied(model, memoryview(b"abcdef")[::2])
    assert bytes(output) == b"ace"
    assert copies == 1


# DLPack


class Packed:
    """An object that only speaks DLPack."""

    def __init__(self, value: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.value = value
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **options: Any) -> Any:
        return self.value.__dlpack__(**options)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_dlpack_is_read_in_place(runtime, dtype) -> None:
    model = load(runtime, dtype)
    value = np.ones((2, 4), dtype)
    output, copies = copied(model, Packed(value))
    np.testing.assert_array_equal(output, value)
    assert copies == 0


def test_strided_dlpack_is_copied_and_counted(runtime) -> None:
    value = np.arange(16, dtype="f4").reshape(4, 4).T
    output, copies = copied(load(runtime), Packed(value))
    np.testing.assert_array_equal(output, value)
    assert copies == 1


def test_memory_of_a_gpu_is_refused_by_name(runtime) -> None:
    with pytest.raises(InvalidInput, match=r"input .x.: expected memory on .cpu., got .cuda:1."):
        load(runtime).infer({"x": Packed(np.ones((1, 4), "f4"), device=(2, 1))})


def test_results_are_dlpack_too(runtime) -> None:
    result = load(runtime).infer({"x": np.ones((2, 4), "f4")})["output_0"]
    assert np.shares_memory(np.from_dlpack(result), result)


def test_a_tensor_of_pytorch_goes_in(runtime) -> None:
    torch = pytest.importorskip("torch")
    value = torch.arange(8, dtype=torch.float32).reshape(2, 4)
    np.testing.assert_array_equal(copied(load(runtime), value)[0], value.numpy())
    halves = value.to(torch.bfloat16)
    output = copied(load(runtime, "bfloat16"), halves)[0]
    np.testing.assert_array_equal(output.astype("f4"), value.numpy())
