"""What becomes of a case: refused, failed, other numbers, or as expected."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import pyruntime

if TYPE_CHECKING:
    import onnx

    from onnx_backend.cases import Case

# Where a case ends: "load" and "run" with an error, "numbers" with outputs that are not those
# expected.
End = Literal["load", "run", "numbers", "as expected"]

OPTIONS = pyruntime.ModelOptions(intra_op_threads=1, inter_op_threads=1)


@dataclass(frozen=True)
class Outcome:
    """How a case ended. outputs: of each data set that ran."""

    end: End
    outputs: tuple[list[Any], ...] = ()
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.end if self.error is None else f"{self.end}: {self.error}"


def of_pyruntime(runtime: pyruntime.Runtime, case: Case) -> Outcome:
    """Load, run and unload the case's model. Raises anything but EngineError."""
    try:
        model = runtime.load("case", case.source, options=OPTIONS)
    except pyruntime.EngineError as error:
        return Outcome("load", error=error)
    with model:
        results = []
        try:
            for data in case.data_sets:
                result = model.infer(data.inputs)
                results.append([result.pop(name) for name in case.output_names])
                assert not result
        except pyruntime.EngineError as error:
            return Outcome("run", error=error)
    return compared(case, results)


def of_plain_engine(case: Case) -> Outcome:
    """Run the case by ONNX Runtime's own Python module. Raises what is not an error of its."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    source = str(case.source) if isinstance(case.source, Path) else case.source
    try:
        session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
    except Exception as error:
        return Outcome("load", error=_of_engine(error))
    results = []
    try:
        for data in case.data_sets:
            results.append(session.run(case.output_names, data.inputs))
    except Exception as error:
        return Outcome("run", error=_of_engine(error))
    return compared(case, results)


def _of_engine(error: Exception) -> Exception:
    if not type(error).__module__.startswith("onnxruntime."):
        raise error  # of the Python module, say of a dtype that it does not take
    return error


def compared(case: Case, results: list[list[Any]]) -> Outcome:
    """Hold outputs to those expected, by the package's own comparison."""
    from onnx.backend.test.runner import Runner

    try:
        for data, outputs in zip(case.data_sets, results, strict=True):
            Runner.assert_similar_outputs(data.outputs, outputs, rtol=case.rtol, atol=case.atol)
    except AssertionError as error:
        return Outcome("numbers", tuple(results), error)
    return Outcome("as expected", tuple(results))


def are_same(first: Outcome, second: Outcome) -> bool:
    """Whether both ended alike; if with outputs, with the same to the bit."""
    if first.end != second.end or len(first.outputs) != len(second.outputs):
        return False
    pairs = zip(chain(*first.outputs), chain(*second.outputs), strict=True)
    return all(
        a.dtype == b.dtype and a.shape == b.shape and _content(a) == _content(b) for a, b in pairs
    )


def _content(array: np.ndarray[Any, Any]) -> object:
    return array.tolist() if array.dtype == object else array.tobytes()


def have_same_form(case: Case, outcome: Outcome) -> bool:
    """Whether dtypes and shapes are those expected, whatever the numbers."""
    return all(
        np.asarray(a).dtype == b.dtype and np.asarray(a).shape == b.shape
        for data, outputs in zip(case.data_sets, outcome.outputs, strict=True)
        for a, b in zip(outputs, data.outputs, strict=True)
    )


def refused_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of inputs and outputs that are no tensors of a type that pyruntime has."""
    import onnx

    served = {
        onnx.TensorProto.DataType.Value(name)
        for name in (
            *("BOOL", "STRING", "FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE"),
            *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
        )
    }
    return [
        value.name
        for value in (*model.graph.input, *model.graph.output)
        if not value.type.HasField("tensor_type") or value.type.tensor_type.elem_type not in served
    ]
