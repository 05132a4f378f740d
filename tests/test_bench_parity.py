"""Parity: how far outputs are apart, by element, and what can be compared at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pyruntime.bench import parity
from pyruntime.bench.deviations import Tolerance, deviation, tolerance_of
from pyruntime.bench.parity_text import parity_text
from pyruntime.cli import main
from pyruntime.errors import InvalidInput

MODELS = Path(__file__).parent / "models"
MLP = MODELS / "mlp_64_256_256_10.onnx"
NONE = Tolerance(0.0, 0.0)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx")


@pytest.fixture(autouse=True)
def _engine() -> None:
    pytest.importorskip("onnxruntime")


def off_by(tmp_path: Path, factor: float) -> Path:
    """The MLP with weights times a factor."""
    model = onnx.load(MLP)
    for item in model.graph.initializer:
        array = numpy_helper.to_array(item)
        if array.dtype == np.float32:  # and not the shapes of a Reshape
            item.CopyFrom(numpy_helper.from_array(np.float32(factor) * array, item.name))
    onnx.save(model, tmp_path / "other.onnx")
    return tmp_path / "other.onnx"


# Distances


def test_equal_arrays_are_no_distance_apart() -> None:
    array = np.float32([[0.0, -0.0, np.nan, np.inf, 1.5]])
    found = deviation("y", "float32", array, np.float32([[-0.0, 0.0, np.nan, np.inf, 1.5]]), NONE)
    assert (found.unequal, found.beyond, found.worst) == (0, 0, None)
    assert found.absolute["max"] == found.relative["max"] == found.ulp["max"] == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_unit_in_the_last_place_is_one(dtype: str) -> None:
    ones = np.ones((1, 100), dtype)
    next_ = ones.copy()
    next_[0, 7] = np.nextafter(ones[0, 7], np.array(2, dtype))
    next_[0, 8] = -np.nextafter(-ones[0, 8], np.array(0, dtype))
    found = deviation("y", dtype, ones, next_, NONE)
    assert found.unequal == found.beyond == 2
    assert (found.ulp["p50"], found.ulp["p99"], found.ulp["max"]) == (0, 1, 1)
    assert found.relative["max"] == np.finfo(dtype).eps
    assert found.worst is not None
    assert found.worst.index == (0, 7)


def test_bfloat16_is_compared_by_its_values() -> None:
    one, next_ = np.uint16([[0x3F80]]), np.uint16([[0x3F81]])  # 1 and 1 + 2**-7
    found = deviation("y", "bfloat16", one, next_, tolerance_of("bfloat16"))
    assert found.ulp["max"] == 1
    assert found.absolute["max"] == 2**-7
    assert found.is_close


def test_numbers_of_both_signs_are_apart_by_what_lies_between() -> None:
    tiny = np.float32([[np.nextafter(np.float32(0), np.float32(1))]])
    assert deviation("y", "float32", -tiny, tiny, NONE).ulp["max"] in (2, 3)


def test_what_is_no_number_on_one_side_is_beyond_any_tolerance() -> None:
    for value in (np.nan, np.inf):
        found = deviation(
            "y", "float32", np.float32([[1, 2]]), np.float32([[1, value]]), Tolerance(1, 1)
        )
        assert (found.beyond, found.absolute["max"], found.relative["max"]) == (1, np.inf, np.inf)
        assert found.worst is not None
        assert found.worst.index == (0, 1)


def test_the_worst_element_is_that_furthest_beyond_its_own_tolerance() -> None:
    expected = np.float32([[1000, 1, 10]])
    got = np.float32([[1000.5, 1.1, 10.2]])
    found = deviation("y", "float32", expected, got, Tolerance(0.01, 0))
    assert found.beyond == 2
    assert found.worst is not None
    assert found.worst.index == (0, 1)
    assert found.worst.got == pytest.approx(1.1)


def test_the_usual_absolute_tolerance_goes_with_the_size_of_the_output() -> None:
    expected = np.float32([[0, 1e6, -1e6]])
    got = expected + np.float32([[5, 0, 0]])  # little beside the others
    assert deviation("y", "float32", expected, got, tolerance_of("float32")).is_close
    strict = tolerance_of("float32", absolute=1.0)
    assert not deviation("y", "float32", expected, got, strict).is_close


@pytest.mark.parametrize(
    ("dtype", "one", "other"),
    [
        ("int64", [[1, 2**62]], [[1, 2**62 + 3]]),
        ("uint8", [[0, 1]], [[0, 4]]),
        ("bool", [[True, True]], [[True, False]]),
        ("string", [["a", "b"]], [[b"a", b"c"]]),
    ],
)
def test_integers_and_texts_have_to_be_equal(dtype: str, one: list, other: list) -> None:
    kind = object if dtype == "string" else dtype
    found = deviation("y", dtype, np.array(one, kind), np.array(other, kind), Tolerance(9, 9))
    assert (found.unequal, found.beyond, found.ulp) == (1, 1, {})
    assert found.worst is not None
    assert found.worst.index == (0, 1)
    if dtype in ("int64", "uint8"):
        assert found.absolute["max"] == 3


def test_another_shape_is_said_to_be_one() -> None:
    found = deviation("y", "float32", np.zeros((1, 2), "f"), np.zeros((1, 3), "f"), NONE)
    assert not found.is_close
    assert found.problem == "shape [2] in the reference, [3] here"


# Variants


def test_a_model_agrees_with_itself_in_all_ways() -> None:
    found = parity(MLP, samples=4)
    assert found.is_close
    kinds = {item.kind for item in found.compared}
    skipped = {item.kind: item.reason for item in found.skipped}
    assert kinds | set(skipped) == {"repeat", "optimization", "threads", "batch", "precision"}
    assert {"repeat", "optimization", "batch"} <= kinds
    again = next(item for item in found.compared if item.kind == "repeat")
    assert again.deviations[0].unequal == 0
    half = [item for item in found.compared if item.kind == "precision"]
    assert all(item.deviations[0].unequal > 0 for item in half)


def test_what_this_machine_lacks_is_skipped_with_its_reason(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = parity(
        MLP,
        devices=["cpu", "cuda:99"],
        providers=["NoSuchExecutionProvider"],
        vary=["device", "provider"],
        samples=1,
    )
    reasons = {item.name: item.reason for item in found.skipped}
    assert set(reasons) == {"device cuda:99", "provider NoSuchExecutionProvider"}
    assert all(reasons.values())
    assert not found.compared
    assert "! skipped: device cuda:99: " in parity_text(found)


def test_without_the_converter_float16_is_skipped(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime.transformers.float16", None)
    found = parity(MLP, vary=["precision"], samples=1)
    assert "pip install 'pyruntime[bench,cpu]'" in found.skipped[0].reason


def test_a_model_without_weights_has_no_float16() -> None:
    found = parity(MODELS / "identity_f32.onnx", vary=["precision"], samples=1)
    assert found.skipped[0].reason == "the model has no float32 weights to convert"


def test_rows_that_depend_on_their_batch_are_found() -> None:
    found = parity(MODELS / "batch_mean.onnx", vary=["batch"], samples=4)
    assert not found.is_close
    assert found.compared[0].deviations[0].beyond > 0


def test_a_model_that_takes_no_batch_says_so() -> None:
    found = parity(MODELS / "static_batch.onnx", vary=["batch"])
    assert "dimension 0" in found.skipped[0].reason


def test_another_file_is_compared(tmp_path) -> None:
    other = off_by(tmp_path, 1.01)
    found = parity(MLP, against=[other], vary=[], samples=2)
    assert not found.is_close
    assert parity(MLP, against=[MLP], vary=[], samples=2).is_close
    assert parity(MLP, against=[other], vary=[], samples=2, relative=0.5, absolute=0.1).is_close


@pytest.mark.parametrize(
    "name", ["identity_string", "identity_bfloat16", "identity_bool", "scalar"]
)
def test_models_of_all_kinds_can_be_compared(name: str) -> None:
    found = parity(MODELS / f"{name}.onnx", vary=["repeat", "optimization"], samples=2)
    assert found.is_close
    assert all(d.unequal == 0 for item in found.compared for d in item.deviations)


def test_given_inputs_are_cut_into_requests() -> None:
    x = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    found = parity(MLP, inputs={"x": x}, rows=2, vary=["repeat"])
    assert (found.samples, found.inputs) == (3, "given")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"devices": ["tpu:0"]}, "devices: expected some of cpu, .*got 'tpu:0'"),
        ({"devices": []}, "devices: expected at least one"),
        ({"vary": ["colour"]}, "vary: expected some of repeat, device.*got 'colour'"),
        ({"samples": 0}, "samples: expected at least 1, got 0"),
        ({"inputs": {"z": np.zeros(3)}}, "inputs: expected 'x', got 'z'"),
        ({"against": ["gone.onnx"], "vary": []}, "model 'gone.onnx': expected an .onnx file"),
        ({"against": [MODELS / "add_sub.onnx"], "vary": []}, "it has no output 'y'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parity(MLP, **fields)


# The command


def test_the_command_tells_by_its_exit_status(tmp_path, capsys) -> None:
    command = ["bench", "parity", str(MLP), "--vary", "repeat", "--samples", "2"]
    assert main(command) == 0
    assert "1 of 1 variants agree with the reference, 1 of them to the last bit" in (
        capsys.readouterr().out
    )
    other = ["--against", str(off_by(tmp_path, 1.01))]
    assert main([*command, *other]) == 3
    out = capsys.readouterr().out
    assert "beyond tolerance: model " in out
    assert "y[0, " in out
    assert main([*command, *other, "--rtol", "0.5", "--atol", "0.1"]) == 0
    assert main(["bench", "parity", "gone.onnx"]) == 1
    assert "model 'gone.onnx': expected an .onnx file, got nothing" in capsys.readouterr().err


def test_the_command_writes_json_and_reads_inputs(tmp_path, capsys) -> None:
    x = np.full((2, 64), np.nan, np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    inputs = ["--inputs", str(tmp_path / "in.npz")]
    command = ["bench", "parity", str(MLP), "--vary", "repeat", "--json", "-"]
    assert main([*command, *inputs]) == 0
    made = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert made["compared"][0]["deviations"][0]["elements"] == 20
    assert made["schema"] == "pyruntime-parity/1"
    (tmp_path / "in.npz").write_bytes(b"nothing")
    assert main([*command, *inputs]) == 1
    assert "expected an .npz file" in capsys.readouterr().err


def test_it_becomes_a_frame() -> None:
    pytest.importorskip("pandas")
    frame = parity(MLP, vary=["repeat"], samples=1).to_frame()
    assert list(frame["variant"]) == ["again"]
    assert {"absolute_max", "ulp_p99", "is_close"} <= set(frame)
