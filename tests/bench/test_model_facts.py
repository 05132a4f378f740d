"""What is said of a model's file: parameters and the work of one request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyruntime.bench.model_facts import model_facts

if TYPE_CHECKING:
    from pathlib import Path

onnx = pytest.importorskip("onnx")
TensorProto, helper = onnx.TensorProto, onnx.helper


def save(path: Path, nodes, *, shape, output, weights, out_shape=None) -> Path:
    """A model of `nodes` from x to y."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, out_shape)],
        [
            onnx.numpy_helper.from_array(np.ones(size, np.float32), name)
            for name, size in weights.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_a_dense_layer_is_two_operations_a_weight_and_row(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    weights = {"w": (64, 10), "b": (10,)}
    path = save(tmp_path / "m.onnx", nodes, shape=["batch", 64], output="y", weights=weights)
    facts = model_facts(path, {"x": [3, 64]})
    assert facts["parameters"] == 650
    assert facts["opset"] == {"ai.onnx": 17}
    assert facts["flops_per_request"] == 2 * 3 * 64 * 10 + 3 * 10
    assert facts["size_bytes"] == path.stat().st_size


def test_a_convolution_counts_its_kernel_for_each_output(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=2)]
    path = save(
        tmp_path / "m.onnx", nodes, shape=["n", 4, 8, 8], output="y", weights={"w": (6, 2, 3, 3)}
    )
    facts = model_facts(path, {"x": [1, 4, 8, 8]})
    assert facts["flops_per_request"] == 2 * (6 * 8 * 8) * (2 * 3 * 3)


def test_a_product_of_matrices_of_several_ranks(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Transpose", ["h"], ["y"], perm=[0, 2, 1]),
    ]
    path = save(
        tmp_path / "m.onnx", nodes, shape=["n", "t", 16], output="y", weights={"w": (16, 4)}
    )
    assert model_facts(path, {"x": [2, 5, 16]})["flops_per_request"] == 2 * (2 * 5 * 4) * 16


def test_what_cannot_be_inferred_is_unknown(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["f"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, shape=["n", 4], output="y", weights={})
    facts = model_facts(path, {"x": [1, 4]})
    assert facts["flops_per_request"] is None
    assert facts["parameters"] == 0


def test_without_onnx_the_file_alone_is_described(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    facts = model_facts(path, {})
    assert facts["opset"] is None
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert model_facts(path, {})["sha256"] == facts["sha256"]
