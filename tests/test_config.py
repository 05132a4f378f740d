"""Options: what is refused, and what files and the environment say."""

import os
import subprocess
import sys

import pytest

from pyruntime import (
    Batching,
    InstanceGroup,
    InvalidInput,
    ModelOptions,
    ProviderOptions,
    TensorSpec,
    Unavailable,
)
from pyruntime.config import find_onnxruntime, read_model_options


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batching(max_rows=0), r"Batching.max_rows: expected an int of at least 1, got 0"),
        (lambda: Batching(max_rows=2.5), r"Batching.max_rows: .* got 2.5"),
        (lambda: Batching(max_rows=True), r"Batching.max_rows: .* got True"),
        (lambda: Batching(max_rows="many"), r'Batching.max_rows: .* or "auto", got \'many\''),
        (lambda: Batching(request_rows=-1), r"Batching.request_rows: .* at least 0, got -1"),
        (lambda: Batching(queue_timeout_us=-1), r"Batching.queue_timeout_us: .* at least 0"),
        (
            lambda: Batching(default_priority="urgent"),  # type: ignore[arg-type]
            r"Batching.default_priority: expected one of 'high', 'normal', 'low', got 'urgent'",
        ),
        (lambda: Batching(queue_rows=-1), r"Batching.queue_rows: .* at least 0, got -1"),
        (lambda: Batching(queue_bytes=-1), r"Batching.queue_bytes: .* at least 0, got -1"),
        (lambda: Batching(max_delay_us=-1), r"Batching.max_delay_us: .* at least 0, got -1"),
        (lambda: Batching(queue_capacity=0), r"Batching.queue_capacity: .* at least 1, got 0"),
        (lambda: InstanceGroup(device=""), r"InstanceGroup.device: expected a text"),
        (lambda: InstanceGroup(count=0), r"InstanceGroup.count: .* at least 1, got 0"),
        (lambda: ProviderOptions("cuda", {"a": 1}), r"ProviderOptions.options: .* str to str"),
        (lambda: ModelOptions(batching={}), r"ModelOptions.batching: expected a Batching, got {}"),
        (lambda: ModelOptions(instances=()), r"ModelOptions.instances: expected at least one"),
        (lambda: ModelOptions(instances=("cpu",)), r"ModelOptions.instances: expected a tuple of"),
        (lambda: ModelOptions(engine=""), r"ModelOptions.engine: expected a text"),
        (lambda: ModelOptions(graph_optimization="most"), r"one of 'none', .* got 'most'"),
        (lambda: ModelOptions(intra_op_threads=-1), r"intra_op_threads: .* at least 0, got -1"),
        (lambda: ModelOptions(use_arena=1), r"ModelOptions.use_arena: expected a bool, got 1"),
        (lambda: ModelOptions(config={"a": None}), r"ModelOptions.config: .* str to str"),
        (lambda: ModelOptions(pool_capacity_bytes=0), r"pool_capacity_bytes: .* got 0"),
        (lambda: ModelOptions(cuda_graphs=(4, 1)), r"cuda_graphs: expected asc.*got \(4, 1\)"),
        (lambda: ModelOptions(cuda_graphs=(0,)), r"cuda_graphs: expected ascending rows"),
        (lambda: ModelOptions(cuda_graphs=4), r"cuda_graphs: "),  # type: ignore[arg-type]
        (lambda: ModelOptions(overlap="four"), r"overlap: .* 'measured', .*got 'four'"),  # type: ignore
        (lambda: ModelOptions(stuck_after_s=-1), r"stuck_after_s: expected seconds .* got -1"),
        (lambda: TensorSpec(""), r"TensorSpec.name: expected a text"),
        (lambda: TensorSpec("x", "float"), r"TensorSpec.dtype: expected one of .* got 'float'"),
        (lambda: TensorSpec("x", "float32", (-2,)), r"TensorSpec.shape: .* got \(-2,\)"),
        (lambda: TensorSpec("x", "float32", 4), r"TensorSpec.shape: .* got 4"),
        (lambda: TensorSpec("x", "float32", (1,), ("a", "b")), r"TensorSpec.symbols: expected 1"),
    ],
)
def test_an_unfit_value_is_refused_with_key_expected_and_got(make, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_options_are_immutable_and_compare_by_value() -> None:
    options = ModelOptions(batching=Batching(max_rows=8), instances=[InstanceGroup(count=2)])
    assert options.instances == (InstanceGroup("cpu", 2),)
    assert options == ModelOptions(batching=Batching(8), instances=(InstanceGroup("cpu", 2),))
    with pytest.raises(AttributeError):
        options.engine = "echo"


def test_a_specification_reads_as_in_errors() -> None:
    assert str(TensorSpec("x", "float32", (-1, 128))) == "float32[*, 128]"
    assert TensorSpec("x", shape=[2, 3]).shape == (2, 3)


def test_a_toml_file_holds_every_option(tmp_path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(
        """
engine = "onnx"
graph_optimization = "extended"
intra_op_threads = 2
config = { "session.intra_op.allow_spinning" = "0" }
[batching]
max_rows = 16
max_delay_us = 100
[[instances]]
device = "cpu"
count = 2
[[providers]]
name = "cpu"
[[echo_inputs]]
name = "x"
dtype = "int64"
shape = [-1, 2]
""",
        encoding="utf-8",
    )
    assert read_model_options(path) == ModelOptions(
        graph_optimization="extended",
        intra_op_threads=2,
        config={"session.intra_op.allow_spinning": "0"},
        batching=Batching(16, 100),
        instances=(InstanceGroup("cpu", 2),),
        providers=(ProviderOptions("cpu"),),
        echo_inputs=(TensorSpec("x", "int64", (-1, 2)),),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine = ", "model.toml: expected TOML"),
        ("motor = 'onnx'", "model.toml: expected keys among .*'engine'.*, got 'motor'"),
        ("batching = 3", "model.toml: batching: expected a table, got 3"),
        ("[batching]\nrows = 3", "model.toml: batching: expected keys among .*, got 'rows'"),
        ("[batching]\nmax_rows = 0", "model.toml: batching: Batching.max_rows: .* got 0"),
        ("instances = 'cpu'", "model.toml: instances: expected a list of tables, got str"),
        ("instances = [{count = 0}]", r"model.toml: instances\[0\]: InstanceGroup.count"),
        ("[[providers]]", r"model.toml: providers\[0\]: .*name"),
    ],
)
def test_a_bad_toml_file_is_named_with_its_key(tmp_path, text, message) -> None:
    path = tmp_path / "model.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        read_model_options(path)


def test_an_absent_toml_file_is_named(tmp_path) -> None:
    with pytest.raises(InvalidInput, match=r"model\.toml: No such file"):
        read_model_options(tmp_path / "model.toml")


def test_the_library_is_found_in_the_wheel(monkeypatch) -> None:
    monkeypatch.delenv("PYRUNTIME_ONNXRUNTIME", raising=False)
    assert "libonnxruntime.so" in find_onnxruntime()


def test_the_environment_says_which_library(monkeypatch, tmp_path) -> None:
    library = tmp_path / "libonnxruntime.so.1"
    library.touch()
    monkeypatch.setenv("PYRUNTIME_ONNXRUNTIME", str(library))
    assert find_onnxruntime() == str(library)
    monkeypatch.setenv("PYRUNTIME_ONNXRUNTIME", str(tmp_path / "absent"))
    with pytest.raises(Unavailable, match="PYRUNTIME_ONNXRUNTIME: expected the path of a library"):
        find_onnxruntime()
    assert find_onnxruntime(library) == str(library)


def test_without_the_library_the_error_says_what_to_install() -> None:
    code = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "onnxruntime" else real(name, *rest)
import pyruntime
try:
    pyruntime.Runtime().load("m", b"anything")
except pyruntime.Unavailable as error:
    print(error)
absent = {item.name: item.why_absent for item in pyruntime.devices() if not item.is_present}
print(absent["onnx"])
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYRUNTIME_ONNXRUNTIME"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert result.stdout.count("pip install 'pyruntime[cpu]'") == 2
