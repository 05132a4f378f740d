"""What an .onnx file holds: its operators' version, parameters and the work of one row."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyruntime.bench.fingerprint import hash_file

__all__ = ["model_facts"]

# Operators whose outputs are other views of their inputs, or of no arithmetic.
_FREE = (
    *("Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Dropout", "Expand"),
    *("Flatten", "Gather", "GatherND", "Identity", "Pad", "QuantizeLinear", "Reshape", "Resize"),
    *("Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
_MULTIPLYING = ("MatMul", "MatMulInteger", "Gemm")
_CONVOLVING = ("Conv", "ConvInteger", "QLinearConv", "FusedConv")


def model_facts(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What the fingerprint of a result says of a model's file.

    shapes: of the inputs of one request; flops are those of one such request.
    Values that cannot be known, such as all from the graph without the package onnx, are None.
    """
    facts: dict[str, Any] = {
        "file": path.name,
        "sha256": hash_file(path),
        "size_bytes": path.stat().st_size,
        "opset": None,
        "parameters": None,
        "flops_per_request": None,
    }
    try:
        import onnx
    except ImportError:
        return facts
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:
        return facts  # a format that only the engine reads
    facts["opset"] = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    facts["parameters"] = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    try:
        facts["flops_per_request"] = _flops(onnx, model, shapes)
    except Exception:
        facts["flops_per_request"] = None  # shapes that cannot be inferred
    return facts


def _flops(onnx: Any, model: Any, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """A multiplication and an addition are two; None where a shape is not known."""
    for value in model.graph.input:
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[value.name], strict=True):
                dim.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known: dict[str, list[int] | None] = {
        tensor.name: list(tensor.dims) for tensor in inferred.initializer
    }
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        known.setdefault(value.name, _dims(value))
    counts = [_flops_of(node, known) for node in inferred.node]
    return None if None in counts else sum(count for count in counts if count is not None)


def _dims(value: Any) -> list[int] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value for dim in dims] if all(d.HasField("dim_value") for d in dims) else None


def _flops_of(node: Any, known: Mapping[str, list[int] | None]) -> int | None:
    if node.op_type in _FREE:
        return 0
    outputs = [known.get(name) for name in node.output if name]
    inputs = [known.get(name) for name in node.input if name]
    if node.op_type in _MULTIPLYING or node.op_type in _CONVOLVING:
        if None in outputs[:1] or None in inputs[:2] or len(inputs) < 2:
            return None
        return _flops_of_products(node, inputs, outputs[0] or [])
    if any(shape is None for shape in outputs):
        return None
    return _largest([*inputs, *outputs])


def _flops_of_products(node: Any, inputs: Sequence[list[int] | None], output: list[int]) -> int:
    if node.op_type in _CONVOLVING:
        weight = inputs[3 if node.op_type == "QLinearConv" else 1] or []
        return 2 * math.prod(output) * math.prod(weight[1:])
    inner = (inputs[0] or [1])[-1]
    if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        inner = (inputs[0] or [1])[0]
    return 2 * math.prod(output) * inner


def _largest(shapes: Iterable[list[int] | None]) -> int:
    """Of an operator that works element by element, or over all of its input."""
    return max((math.prod(shape) for shape in shapes if shape is not None), default=0)
