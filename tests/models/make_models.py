"""Writes the small ONNX models that the tests and benchmarks run.

    python tests/models/make_models.py [FOLDER]

They are committed beside this script, so the C++ tests need no Python. Each is a few hundred
bytes to a few kilobytes: larger weights are a formula that the engine folds into constants while
it loads.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DATA_TYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}
FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64

Dims = Sequence[int | str | None] | None


def tensor(name: str, dims: Dims, element: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, dims)


def value(name: str, value_type: onnx.TypeProto) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, value_type)


def constant(name: str, array: Sequence[float] | np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


class Models:
    """Collects models into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        constants: Sequence[onnx.TensorProto] = (),
        *,
        opset: int = 18,
        more_opsets: Sequence[onnx.OperatorSetIdProto] = (),
        check: bool = True,
    ) -> None:
        graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset), *more_opsets],
            producer_name="make_models",
            ir_version=10,
        )
        model.model_version = 3
        helper.set_model_props(model, {"purpose": "tests"})
        if check:
            onnx.checker.check_model(model)
        # Written here, so that initializers marked external stay as they are.
        (self.folder / f"{name}.onnx").write_bytes(model.SerializeToString())

    def identity(self, name: str, dims: Dims, element: int = FLOAT) -> None:
        node = helper.make_node("Identity", ["x"], ["y"])
        self.add(
            name,
            [node],
            [tensor("x", dims, element)],
            [tensor("y", dims, element)],
            check=dims is not None,  # the checker wants a shape that the format leaves optional
        )


def add_tensor_models(models: Models) -> None:
    models.identity("identity_f32", ["N", 16])
    for name, element in DATA_TYPES.items():
        models.identity(f"identity_{name}", ["N", 4], element)
    models.identity("static_batch", [4, 3])
    models.identity("unnamed_rows", [None, 4])
    models.identity("any_rank", None)
    models.add(
        "add_sub",
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        [tensor("a", ["N", 4]), tensor("b", ["N", 4])],
        [tensor("sum", ["N", 4]), tensor("difference", ["N", 4])],
    )
    models.add(
        "two_row_names",
        [
            helper.make_node("Identity", ["a"], ["c"]),
            helper.make_node("Identity", ["b"], ["d"]),
        ],
        [tensor("a", ["N", 4]), tensor("b", ["M", 4])],
        [tensor("c", ["N", 4]), tensor("d", ["M", 4])],
    )
    models.add(
        "scalar",
        [helper.make_node("Add", ["x", "one"], ["y"])],
        [tensor("x", [])],
        [tensor("y", [])],
        [constant("one", np.float32(1))],
    )
    models.add(
        "non_zero",
        [helper.make_node("NonZero", ["x"], ["indices"])],
        [tensor("x", ["N", 4])],
        [tensor("indices", [2, "count"], INT64)],
    )
    models.add(
        "no_inputs",
        [helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])],
        [],
        [tensor("y", [2])],
    )
    models.add(
        "batch_mean",  # declared with free rows, yet each row's answer depends on the others
        [
            helper.make_node("ReduceMean", ["x", "rows"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [tensor("x", ["N", 4])],
        [tensor("y", ["N", 4])],
        [constant("rows", np.array([0], np.int64))],
    )
    models.add(
        "folds_rows",  # declares as many rows as it is given, yet answers with one
        [helper.make_node("ReduceSum", ["x", "rows"], ["y"], keepdims=1)],
        [tensor("x", ["N", 4])],
        [tensor("y", ["N", 4])],
        [constant("rows", np.array([0], np.int64))],
    )
    models.add(
        "gather_row",  # fails on an index that is out of range
        [helper.make_node("Gather", ["table", "index"], ["row"])],
        [tensor("index", ["N"], INT64)],
        [tensor("row", ["N", 2])],
        [constant("table", np.arange(6, dtype=np.float32).reshape(3, 2))],
    )
    models.add(
        "split_in_three",  # [N, 6] only, though the signature admits any width
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", ["N", "width"])],
        [tensor("y", ["N", 3, 2])],
        [constant("shape", np.array([0, 3, 2], np.int64))],
    )
    models.add(
        "text_encoder",  # answers a padded text as the text alone, thanks to the mask; to 24 tokens
        [
            helper.make_node("Gather", ["embeddings", "ids"], ["embedded"]),
            # The table of positions ends, as that of real encoders does.
            helper.make_node("Shape", ["ids"], ["length"], start=1, end=2),
            helper.make_node("Squeeze", ["length"], ["stop"]),
            helper.make_node("Range", ["zero", "stop", "one"], ["places"]),
            helper.make_node("Gather", ["positions", "places"], ["placed"]),
            helper.make_node("Add", ["embedded", "placed"], ["x"]),
            helper.make_node("Transpose", ["x"], ["keys"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["x", "keys"], ["scores"]),
            helper.make_node("Cast", ["mask"], ["kept"], to=FLOAT),
            helper.make_node("Sub", ["one_f", "kept"], ["left_out"]),
            helper.make_node("Mul", ["left_out", "far"], ["penalty"]),
            helper.make_node("Unsqueeze", ["penalty", "axis_1"], ["penalties"]),
            helper.make_node("Add", ["scores", "penalties"], ["masked"]),
            helper.make_node("Softmax", ["masked"], ["attention"], axis=-1),
            helper.make_node("MatMul", ["attention", "x"], ["tokens"]),
            helper.make_node("Unsqueeze", ["kept", "axis_2"], ["kept_column"]),
            helper.make_node("Mul", ["tokens", "kept_column"], ["kept_tokens"]),
            helper.make_node("ReduceSum", ["kept_tokens", "axis_1"], ["pooled"], keepdims=0),
        ],
        [tensor("ids", ["batch", "sequence"], INT64), tensor("mask", ["batch", "sequence"], INT64)],
        [tensor("tokens", ["batch", "sequence", 8]), tensor("pooled", ["batch", 8])],
        [
            constant("embeddings", np.sin(np.arange(64 * 8)).astype(np.float32).reshape(64, 8)),
            constant("positions", np.cos(np.arange(24 * 8)).astype(np.float32).reshape(24, 8)),
            constant("zero", np.int64(0)),
            constant("one", np.int64(1)),
            constant("one_f", np.float32(1)),
            constant("far", np.float32(-1e9)),
            constant("axis_1", np.array([1], np.int64)),
            constant("axis_2", np.array([2], np.int64)),
        ],
    )
    models.add(
        "drop_out",  # a node whose second output is left out
        [helper.make_node("Dropout", ["x"], ["y", ""])],
        [tensor("x", ["N", 4])],
        [tensor("y", ["N", 4])],
    )


FORMULA_CONSTANTS = [
    constant("zero", np.int64(0)),
    constant("one", np.int64(1)),
    constant("square_factor", np.int64(31)),
    constant("factor", np.int64(17)),
    constant("prime", np.int64(1009)),
]


def formula_weights(
    layer: int, shape: Sequence[int], fan_in: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that make the constant w_<layer>: (k * 31 + 17) * k mod 1009, scaled around 0.

    They need FORMULA_CONSTANTS. Also gives bias_<layer>, of one element.
    """
    i = layer
    constants = [
        constant(f"count_{i}", np.int64(np.prod(shape))),
        constant(f"shape_{i}", np.array(shape, np.int64)),
        constant(f"scale_{i}", np.float32(1009 / (2 / fan_in**0.5))),
        constant(f"bias_{i}", np.array([0.01 * (i + 1)], np.float32)),
    ]
    nodes = [
        helper.make_node("Range", ["zero", f"count_{i}", "one"], [f"k_{i}"]),
        helper.make_node("Mul", [f"k_{i}", "square_factor"], [f"k31_{i}"]),
        helper.make_node("Add", [f"k31_{i}", "factor"], [f"k31p17_{i}"]),
        helper.make_node("Mul", [f"k31p17_{i}", f"k_{i}"], [f"hash_{i}"]),
        helper.make_node("Mod", [f"hash_{i}", "prime"], [f"rest_{i}"]),
        helper.make_node("Cast", [f"rest_{i}"], [f"float_{i}"], to=FLOAT),
        helper.make_node("Div", [f"float_{i}", f"scale_{i}"], [f"positive_{i}"]),
        helper.make_node("ReduceMean", [f"positive_{i}"], [f"mean_{i}"]),
        helper.make_node("Sub", [f"positive_{i}", f"mean_{i}"], [f"flat_{i}"]),
        helper.make_node("Reshape", [f"flat_{i}", f"shape_{i}"], [f"w_{i}"]),
    ]
    return nodes, constants


def add_mlp(models: Models) -> None:
    """64-256-256-10 with Relu."""
    sizes = [64, 256, 256, 10]
    nodes = []
    constants = list(FORMULA_CONSTANTS)
    last = "x"
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        is_last = i == len(sizes) - 2
        weight_nodes, weight_constants = formula_weights(i, [fan_in, fan_out], fan_in)
        constants += weight_constants
        nodes += [
            *weight_nodes,
            helper.make_node(
                "Gemm", [last, f"w_{i}", f"bias_{i}"], ["y" if is_last else f"sum_{i}"]
            ),
        ]
        if not is_last:
            nodes.append(helper.make_node("Relu", [f"sum_{i}"], [f"layer_{i}"]))
            last = f"layer_{i}"
    models.add(
        "mlp_64_256_256_10",
        nodes,
        [tensor("x", ["N", 64])],
        [tensor("y", ["N", 10])],
        constants,
    )


def add_conv(models: Models, side: int) -> None:
    """Convolutions of 3 by 3 with Relu over images of `side` pixels squared, then ten classes.

    One row of 224 takes some 30 ms on one core of a server, one of 64 a twelfth of that.
    """
    channels = [3, 32, 64, 64, 128, 128]
    strides = [2, 1, 2, 1, 2]
    nodes = []
    constants = list(FORMULA_CONSTANTS)
    last = "x"
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(channels)):
        weight_nodes, weight_constants = formula_weights(i, [fan_out, fan_in, 3, 3], 9 * fan_in)
        constants += weight_constants
        nodes += [
            *weight_nodes,
            helper.make_node(
                "Conv", [last, f"w_{i}"], [f"sum_{i}"], pads=[1, 1, 1, 1], strides=[strides[i]] * 2
            ),
            helper.make_node("Add", [f"sum_{i}", f"bias_{i}"], [f"biased_{i}"]),
            helper.make_node("Relu", [f"biased_{i}"], [f"layer_{i}"]),
        ]
        last = f"layer_{i}"
    head = len(strides)
    weight_nodes, weight_constants = formula_weights(head, [channels[-1], 10], channels[-1])
    models.add(
        f"conv_{side}",
        [
            *nodes,
            *weight_nodes,
            helper.make_node("GlobalAveragePool", [last], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
            helper.make_node("Gemm", ["features", f"w_{head}", f"bias_{head}"], ["y"]),
        ],
        [tensor("x", ["N", 3, side, side])],
        [tensor("y", ["N", 10])],
        [*constants, *weight_constants],
    )


def add_external_data(models: Models) -> None:
    data = np.array([1, 2, 3, 4], np.float32)
    (models.folder / "external_data.bin").write_bytes(data.tobytes())
    weights = TensorProto(name="w", data_type=FLOAT, dims=data.shape)
    weights.data_location = TensorProto.EXTERNAL
    for key, text in {"location": "external_data.bin", "length": str(data.nbytes)}.items():
        weights.external_data.add(key=key, value=text)
    models.add(
        "external_data",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [tensor("x", ["N", 4])],
        [tensor("y", ["N", 4])],
        [weights],
        check=False,
    )


def add_count_down(models: Models) -> None:
    """Adds 1 to x `count` times, a node at a time: a run that takes as long as one likes."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Add", ["sum", "one"], ["sum_out"]),
        ],
        "body",
        [
            tensor("i", [], INT64),
            tensor("go_on", [], TensorProto.BOOL),
            tensor("sum", ["N", 4]),
        ],
        [tensor("go_on_out", [], TensorProto.BOOL), tensor("sum_out", ["N", 4])],
    )
    models.add(
        "add_repeatedly",
        [helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)],
        [tensor("count", [], INT64), tensor("x", ["N", 4])],
        [tensor("y", ["N", 4])],
        [constant("one", np.float32(1))],
    )


def add_refused_models(models: Models) -> None:
    """Models with inputs or outputs that are no plain tensors."""
    float_tensor = helper.make_tensor_type_proto(FLOAT, ["N", 4])
    sequence = helper.make_sequence_type_proto(float_tensor)
    models.add(
        "sequence_input",
        [helper.make_node("SequenceLength", ["items"], ["length"])],
        [value("items", sequence)],
        [tensor("length", [], INT64)],
    )
    models.add(
        "sequence_output",
        [helper.make_node("SequenceConstruct", ["x"], ["items"])],
        [tensor("x", ["N", 4])],
        [value("items", sequence)],
    )
    models.add(
        "optional_input",
        [helper.make_node("OptionalGetElement", ["x"], ["y"])],
        [value("x", helper.make_optional_type_proto(float_tensor))],
        [tensor("y", ["N", 4])],
    )
    models.add(
        "map_input",
        [
            helper.make_node(
                "DictVectorizer",
                ["counts"],
                ["y"],
                domain="ai.onnx.ml",
                string_vocabulary=["a", "b"],
            )
        ],
        [
            value(
                "counts",
                helper.make_map_type_proto(
                    TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, [])
                ),
            )
        ],
        [tensor("y", [1, 2])],
        more_opsets=[helper.make_opsetid("ai.onnx.ml", 3)],
    )
    models.add(
        "sparse_input",
        [helper.make_node("SparseToDenseMatMul", ["a", "b"], ["y"], domain="com.microsoft")],
        [
            value("a", helper.make_sparse_tensor_type_proto(FLOAT, [2, 2])),
            tensor("b", [2, 2]),
        ],
        [tensor("y", [2, 2])],
        more_opsets=[helper.make_opsetid("com.microsoft", 1)],
        check=False,
    )
    models.add(
        "float8_input",
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", ["N", 4], TensorProto.FLOAT8E4M3FN)],
        [tensor("y", ["N", 4], TensorProto.FLOAT8E4M3FN)],
        opset=19,
    )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    models = Models(folder)
    add_tensor_models(models)
    add_mlp(models)
    for side in (64, 224):
        add_conv(models, side)
    add_external_data(models)
    add_count_down(models)
    add_refused_models(models)


if __name__ == "__main__":
    main()
