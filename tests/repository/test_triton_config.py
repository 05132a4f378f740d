"""A Triton repository as it is: what of its configuration is honoured, and what is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from repositories import MODELS, add

from pyruntime import InvalidInput
from pyruntime.config.model import ModelConfig
from pyruntime.config.triton import triton_config_from_json, triton_config_from_text
from pyruntime.repository import ModelRepository

if TYPE_CHECKING:
    from pathlib import Path

MLP = MODELS / "mlp_64_256_256_10.onnx"

# Laid out and worded as Triton's documentation does.
CONFIG = """
name: "mlp"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {
    name: "input"
    data_type: TYPE_FP32
    dims: [ 64 ]
  }
]
output [
  {
    name: "output"
    data_type: TYPE_FP32
    dims: [ 10 ]
    label_filename: "labels.txt"
  }
]
version_policy: { all { } }
instance_group [
  {
    count: 2
    kind: KIND_CPU
  }
]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  preserve_ordering: true
  priority_levels: 2
  default_priority_level: 1
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: 60000000
    allow_timeout_override: true
    max_queue_size: 16
  }
  priority_queue_policy { key: 2 value { max_queue_size: 4 } }
}
optimization { graph { level: -1 } input_pinned_memory { enable: true } }
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
parameters { key: "execution_mode" value: { string_value: "0" } }
parameters { key: "session.set_denormal_as_zero" value: { string_value: "1" } }
model_warmup [
  {
    name: "zeros"
    batch_size: 4
    count: 3
    inputs { key: "input" value: { data_type: TYPE_FP32 dims: 64 zero_data: true } }
  },
  {
    name: "recorded"
    batch_size: 1
    inputs { key: "input" value: { data_type: TYPE_FP32 dims: 64 input_data_file: "row" } }
  }
]
"""


def read(text: str, folder: Path) -> ModelConfig:
    return triton_config_from_text(text, ModelConfig(), folder / "mlp", where="config.pbtxt")


@pytest.fixture
def names() -> tuple[str, str]:
    """The model's own names of its input and output."""
    import onnx

    graph = onnx.load(MLP).graph
    return graph.input[0].name, graph.output[0].name


def renamed(text: str, names: tuple[str, str]) -> str:
    return text.replace('"input"', f'"{names[0]}"').replace('"output"', f'"{names[1]}"')


def test_what_means_something_is_honoured(tmp_path: Path) -> None:
    config = read(CONFIG, tmp_path)
    options = config.options
    assert options.batching.max_rows == 8
    assert options.batching.max_delay_us == 100
    assert options.batching.request_rows == 8
    assert options.batching.queue_capacity == 16
    assert options.batching.queue_timeout_us == 60_000_000
    assert options.batching.default_priority == "high"
    assert options.graph_optimization == "basic"
    assert options.intra_op_threads == 2
    assert options.config == {"session.set_denormal_as_zero": "1"}
    assert [(group.device, group.count) for group in options.instances] == [("cpu", 2)]
    assert config.versions.all
    assert str(config.inputs[0]) == "float32[*, 64]"
    assert [(one.name, one.runs) for one in config.requests] == [("zeros", 3), ("recorded", 1)]
    assert config.requests[0].inputs["input"] == ("float32", (4, 64), "zeros")


def test_what_means_nothing_here_is_named(tmp_path: Path) -> None:
    assert set(read(CONFIG, tmp_path).ignored) == {
        "output.label_filename",
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.priority_queue_policy",
        "optimization.input_pinned_memory",
        "parameters['execution_mode']",
    }


def policy(text: str, folder: Path) -> ModelConfig:
    return read(f"dynamic_batching {{ {text} }}", folder)


def test_what_a_queue_policy_says_is_honoured_as_far_as_it_can_be(tmp_path: Path) -> None:
    named = "dynamic_batching.default_queue_policy"
    delay = "default_queue_policy { default_timeout_microseconds: 5 timeout_action: DELAY }"
    config = policy(delay, tmp_path)
    assert config.options.batching.queue_timeout_us == 0
    assert config.ignored == (f"{named}.default_timeout_microseconds (to DELAY)",)
    config = policy("default_queue_policy { max_queue_size: 100000 }", tmp_path)
    assert config.options.batching.queue_capacity == 65536
    assert config.ignored == (f"{named}.max_queue_size (beyond 65536)",)


@pytest.mark.parametrize(
    ("levels", "level", "priority"),
    [(1, 1, "high"), (3, 2, "normal"), (3, 3, "low"), (9, 9, "low")],
)
def test_priority_levels_become_the_three_that_there_are(
    tmp_path: Path, levels: int, level: int, priority: str
) -> None:
    text = f"priority_levels: {levels} default_priority_level: {level}"
    config = policy(text, tmp_path)
    assert config.options.batching.default_priority == priority
    beyond = ("dynamic_batching.priority_levels (beyond 3)",)
    assert config.ignored == (beyond if levels > 3 else ())


def test_a_request_of_more_rows_than_max_batch_size_is_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    add(tmp_path, "mlp", 1, MLP)
    (tmp_path / "mlp" / "config.pbtxt").write_text("max_batch_size: 2")
    with ModelRepository(tmp_path) as repository:
        model = repository.runtime.model("mlp")
        model.infer({names[0]: np.zeros((2, 64), np.float32)})
        with pytest.raises(InvalidInput, match=r"at most 2 rows in a request .* got 3"):
            model.infer({names[0]: np.zeros((3, 64), np.float32)})


def test_a_documented_repository_is_served(tmp_path: Path, names: tuple[str, str]) -> None:
    for version in (1, 3):
        add(tmp_path, "mlp", version, MLP)
    (tmp_path / "mlp" / "config.pbtxt").write_text(renamed(CONFIG, names))
    (tmp_path / "mlp" / "labels.txt").write_text("zero\n")
    (tmp_path / "mlp" / "warmup").mkdir()
    (tmp_path / "mlp" / "warmup" / "row").write_bytes(np.ones(64, np.float32).tobytes())
    with ModelRepository(tmp_path) as repository:
        model = repository.runtime.model("mlp")
        assert [one.version for one in repository.runtime.models()] == [1, 3]
        assert model.infer({names[0]: np.zeros((2, 64), np.float32)})[names[1]].shape == (2, 10)
        assert "output.label_filename" in repository.index()[0].reason


def test_the_model_s_own_file_name_and_shapes(tmp_path: Path) -> None:
    file = add(tmp_path, "m", 1, MLP)
    file.rename(file.with_name("net.onnx"))
    (tmp_path / "m" / "config.pbtxt").write_text(
        'default_model_filename: "net.onnx" version_policy { specific { versions: [1] } }'
    )
    with ModelRepository(tmp_path) as repository:
        assert repository.runtime.model("m").version == 1
        # Without max_batch_size nothing is batched.
        assert repository.runtime.model("m").options.batching.max_rows == 1


def test_gpus_and_accelerators_become_providers(tmp_path: Path) -> None:
    text = """instance_group { kind: KIND_GPU gpus: [1, 2] }
      optimization { execution_accelerators {
        gpu_execution_accelerator { name: "tensorrt" parameters { key: "a" value: "b" } } } }"""
    config = read(text, tmp_path)
    assert [(one.name, dict(one.options)) for one in config.options.providers] == [
        ("cuda", {"device_id": "1"}),
        ("tensorrt", {"a": "b"}),
        ("cpu", {}),
    ]
    assert config.ignored == ("instance_group.gpus (all but the first)",)


def test_json_says_the_same(tmp_path: Path) -> None:
    text = '{"max_batch_size": 4, "version_policy": {"latest": {"num_versions": 2}}}'
    config = triton_config_from_json(text, ModelConfig(), tmp_path, where="config")
    assert config.options.batching.max_rows == 4
    assert config.versions.newest == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size: many", "config.pbtxt: expected a ModelConfig as text: 1:17"),
        ("max_batch: 3", 'no field named "max_batch"'),
        ('backend: "pytorch"', "backend: expected 'onnxruntime', got 'pytorch'"),
        ('platform: "tensorrt_plan"', "platform: expected 'onnxruntime_onnx'"),
        ('name: "other"', "name: expected 'mlp' as the folder's, got 'other'"),
        (
            "dynamic_batching { priority_levels: 2 }",
            "default_priority_level: expected 1 to priority_levels (2), got 0",
        ),
        (
            "dynamic_batching {"
            " default_queue_policy { default_timeout_microseconds: 9000000000 } }",
            "Batching.queue_timeout_us: expected an int of at most 3600000000",
        ),
        ("ensemble_scheduling { }", "expected a single model, got an ensemble"),
        ("max_batch_size: -1", "max_batch_size: expected 0 or more, got -1"),
        ("optimization { graph { level: 7 } }", "optimization.graph.level: expected -1, 0, 1, 2"),
        ("instance_group { count: -2 }", "instance_group.count: expected 1 or more"),
        ("version_policy { specific { } }", "version_policy.specific: expected versions"),
        ('default_model_filename: "../x"', "default_model_filename: expected a file's name"),
        ('input { name: "x" dims: [1] }', "input 'x': data_type: expected one, got none"),
        ('input { name: "" data_type: TYPE_FP32 }', "config.pbtxt: TensorSpec.name"),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "x" } }',
            "parameters['intra_op_thread_count']: expected a whole number, got 'x'",
        ),
        (
            'model_warmup { name: "w" inputs { key: "x" '
            "value { data_type: TYPE_FP32 dims: -1 } } }",
            "model_warmup 'w': input 'x': dims",
        ),
        (
            'model_warmup { name: "w" inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 '
            'input_data_file: "../../secret" } } }',
            "input_data_file leads out of",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text, tmp_path)
    assert said in str(caught.value)
    assert str(caught.value).startswith("config.pbtxt: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('input { name: "nobody" data_type: TYPE_FP32 dims: 64 }', "input 'nobody': expected one"),
        ('input { name: "input" data_type: TYPE_FP32 dims: 63 }', "expected float32[*, 64]"),
        ('input { name: "input" data_type: TYPE_INT8 dims: 64 }', "got int8[*, 64]"),
        ('output { name: "output" data_type: TYPE_FP32 dims: [1, 10] }', "expected float32[*, 10]"),
    ],
)
def test_a_model_that_is_not_as_configured_is_refused(
    tmp_path: Path, names: tuple[str, str], text: str, said: str
) -> None:
    add(tmp_path, "mlp", 1, MLP)
    (tmp_path / "mlp" / "config.pbtxt").write_text("max_batch_size: 2 " + renamed(text, names))
    with ModelRepository(tmp_path) as repository:
        (status,) = repository.index()
    assert status.is_failed
    assert said in status.reason


def test_a_failing_warm_up_is_a_refusal(tmp_path: Path) -> None:
    add(tmp_path, "mlp", 1, MLP)
    (tmp_path / "mlp" / "config.pbtxt").write_text(
        'model_warmup { name: "w" inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 } } }'
    )
    with ModelRepository(tmp_path) as repository:
        (status,) = repository.index()
    assert status.is_failed
    assert status.reason == "warm-up: input 'x': expected float32[*, 64], got float32[1]"
