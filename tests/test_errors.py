"""The exceptions, and that each reaches Python with its message."""

import pickle

import numpy as np
import pytest
from models_for_tests import echo, path_of, rows

import pyruntime
from pyruntime import errors


def test_there_is_one_class_for_each_code_of_the_core() -> None:
    assert {code: error.__name__ for code, error in errors.BY_CODE.items()} == {
        code: code
        for code in (
            "InvalidInput",
            "ModelNotFound",
            "Overloaded",
            "DeadlineExceeded",
            "Cancelled",
            "Unavailable",
            "Unimplemented",
            "EngineError",
        )
    }
    assert all(issubclass(error, pyruntime.PyRuntimeError) for error in errors.BY_CODE.values())
    assert all(error.code == code for code, error in errors.BY_CODE.items())


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.InvalidInput, ValueError),
        (errors.ModelNotFound, LookupError),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.Unimplemented, NotImplementedError),
    ],
)
def test_an_error_is_also_what_python_calls_it(
    error: type[Exception], base: type[Exception]
) -> None:
    assert issubclass(error, base)
    copy = pickle.loads(pickle.dumps(error("why")))
    assert type(copy) is error
    assert str(copy) == "why"


@pytest.fixture
def runtime():
    with pyruntime.Runtime() as runtime:
        yield runtime


def test_bad_inputs_are_named_with_what_was_expected_and_what_came(runtime) -> None:
    model = runtime.load("echo", options=echo())
    good = rows(1.0)
    for inputs, message in [
        ({}, r"input 'x' is missing: expected float32\[\*, 4\]"),
        ({**good, "y": good["x"]}, r"input 'y' is unknown: expected 'x'"),
        ({"x": np.ones((2, 4))}, r"input 'x': expected float32\[\*, 4\], got float64\[2, 4\]"),
        (
            {"x": np.ones((2, 3), "f4")},
            r"input 'x': expected float32\[\*, 4\], got float32\[2, 3\]",
        ),
        ({"x": np.float32(1)}, r"input 'x': expected float32\[\*, 4\], got float32\[\]"),
        ({"x": np.ones(4, complex)}, r"input 'x': expected float32, got an array of complex128"),
        ({"x": np.ones((1,) * 17, "f4")}, r"17"),
        ({1: good["x"]}, r"inputs: expected names of type str, got 1"),
        (7, r"inputs: expected a mapping of names to arrays, got int"),
    ]:
        with pytest.raises(errors.InvalidInput, match=message):
            model.infer(inputs)
        assert model.infer(good)["output_0"].tolist() == good["x"].tolist()


def test_bad_options_of_a_call_are_named(runtime) -> None:
    model = runtime.load("echo", options=echo())
    for options, message in [
        ({"outputs": ["z"]}, "output 'z'"),
        ({"outputs": []}, "outputs: expected a sequence of names, got \\[\\]"),
        ({"outputs": "output_0"}, "outputs: expected a sequence of names, got 'output_0'"),
        ({"outputs": [1]}, "outputs: expected a sequence of names"),
        ({"timeout_s": "soon"}, "timeout_s: expected seconds or None, got 'soon'"),
        ({"timeout_s": float("nan")}, "timeout_s: expected seconds"),
        ({"priority": "urgent"}, "priority: expected 'high', 'normal' or 'low', got 'urgent'"),
    ]:
        with pytest.raises(errors.InvalidInput, match=message):
            model.infer(rows(1.0), **options)
        with pytest.raises(errors.InvalidInput, match=message):
            model.submit(rows(1.0), **options)


def test_an_unknown_model_or_version_is_named_with_what_there_is(runtime) -> None:
    runtime.load("echo", options=echo(), version=3)
    with pytest.raises(errors.ModelNotFound, match="model 'other'"):
        runtime.model("other")
    with pytest.raises(errors.ModelNotFound, match=r"'echo'.*4.*3"):
        runtime.model("echo", 4)
    with pytest.raises(errors.ModelNotFound, match="'other'"):
        runtime.unload("other")
    with pytest.raises(errors.ModelNotFound, match="'echo'"):
        runtime.unload("echo", 9)


def test_a_failing_run_is_an_engine_error(runtime) -> None:
    model = runtime.load("echo", options=echo(fail_value=13))
    with pytest.raises(errors.EngineError, match="13"):
        model.infer(rows(13))
    with pytest.raises(errors.EngineError, match="13"):
        model.submit(rows(13)).result(10)
    assert model.infer(rows(1))["output_0"][0, 0] == 1


def test_what_cannot_be_loaded_is_refused_with_the_models_name(runtime, tmp_path) -> None:
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"no model at all")
    for source, error in [
        (corrupt, pyruntime.PyRuntimeError),
        (b"no model at all", pyruntime.PyRuntimeError),
        (tmp_path / "absent.onnx", pyruntime.PyRuntimeError),
        (path_of("sequence_input"), errors.PyRuntimeError),
        (None, errors.InvalidInput),
        (12, errors.InvalidInput),
    ]:
        with pytest.raises(error, match="model 'm'"):
            runtime.load("m", source)
    assert runtime.models() == []
    # A failed load does not use up its version.
    assert runtime.load("m", path_of("identity_f32")).version == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name: expected a text"),
        ({"name": "m", "version": 0}, "version: expected at least 1, got 0"),
        ({"name": "m", "version": "1"}, "version: expected at least 1, got '1'"),
        ({"name": "m", "options": {}}, "options: expected ModelOptions, got {}"),
    ],
)
def test_bad_arguments_of_load_are_named(runtime, arguments, message) -> None:
    with pytest.raises(errors.InvalidInput, match=message):
        runtime.load(**{"options": echo(), **arguments})


def test_an_absent_provider_fails_the_load(runtime) -> None:
    options = pyruntime.ModelOptions(providers=(pyruntime.ProviderOptions("tensorrt"),))
    with pytest.raises(errors.PyRuntimeError, match=r"(?i)tensorrt"):
        runtime.load("m", path_of("identity_f32"), options=options)


def test_an_absent_device_fails_the_load(runtime) -> None:
    options = pyruntime.ModelOptions(instances=(pyruntime.InstanceGroup("cuda:7"),))
    with pytest.raises(errors.Unavailable, match="cuda:7"):
        runtime.load("m", path_of("identity_f32"), options=options)
