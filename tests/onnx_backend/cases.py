"""Reads the backend tests that the installed `onnx` wheel carries: models, inputs, outputs.

Listing them imports nothing. Node cases are made by code, module by module, when they are asked
for: making all of them takes longer than importing all of this package.
"""

from __future__ import annotations

import functools
import importlib
import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

_PACKAGE = "onnx.backend.test.case"


def _folder(*parts: str) -> Path:
    spec = find_spec("onnx")
    assert spec is not None, "onnx: expected to be installed with the tests' requirements"
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath("backend", "test", *parts)


@dataclass(frozen=True)
class DataSet:
    """Inputs by name, and the outputs expected, in the model's order."""

    inputs: dict[str, Any]
    outputs: list[Any]


@dataclass(frozen=True)
class Case:
    """A model with its data; tolerances as the package's own runner has them."""

    name: str
    model: onnx.ModelProto
    source: bytes | Path
    data_sets: tuple[DataSet, ...]
    rtol: float
    atol: float

    @property
    def output_names(self) -> list[str]:
        return [output.name for output in self.model.graph.output]


def generating_modules() -> list[str]:
    """Modules whose import makes cases, such as "node.add"."""
    folder = _folder("case")
    paths = [*folder.glob("node/**/*.py"), *folder.glob("model/*.py")]
    return sorted(
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in paths
        if not path.name.startswith("_")
    )


@functools.cache
def generated(module: str) -> tuple[Case, ...]:
    """Cases that one of generating_modules() makes."""
    made: list[Any] = _registry(module.partition(".")[0])
    before = len(made)
    # Overflows are what some cases are about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"{_PACKAGE}.{module}")
        return tuple(_of_code(case) for case in made[before:] if case.model is not None)


def names_of_all_generated() -> list[str]:
    """What the package's own loaders collect."""
    from onnx.backend.test.case.utils import import_recursive

    for kind in ("node", "model"):
        import_recursive(importlib.import_module(f"{_PACKAGE}.{kind}"))
    return [case.name for kind in ("node", "model") for case in _registry(kind)]


def folders() -> list[str]:
    """Cases that lie in files, such as "simple/test_shrink"."""
    data = _folder("data")
    return sorted(str(path.parent.relative_to(data)) for path in data.glob("*/*/model.onnx"))


def of_folder(name: str) -> Case:
    """Read one of folders()."""
    import onnx

    folder = _folder("data") / name
    model = onnx.load(folder / "model.onnx")
    tolerances = {"rtol": 1e-3, "atol": 1e-7}
    if (folder / "data.json").exists():
        tolerances |= json.loads((folder / "data.json").read_text())
    data_sets = []
    for data in sorted(folder.glob("test_data_set*")):
        inputs = _read_all(data, "input", [i.type for i in model.graph.input])
        outputs = _read_all(data, "output", [o.type for o in model.graph.output])
        data_sets.append(_data_set(model, inputs, outputs))
    return Case(
        name=folder.name,
        model=model,
        source=folder / "model.onnx",
        data_sets=tuple(data_sets),
        rtol=tolerances["rtol"],
        atol=tolerances["atol"],
    )


def light_models() -> list[str]:
    """Networks of the model zoo with weights that are a formula; outputs lie beside them."""
    return sorted(path.stem for path in _folder("data", "light").glob("*.onnx"))


def of_light_model(name: str) -> Case:
    """Read one of light_models(), with the input that the package's own runner gives it."""
    import onnx
    from onnx.backend.test.runner import Runner

    path = _folder("data", "light") / f"{name}.onnx"
    model = onnx.load(path)
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [Runner.generate_dummy_data(i) for i in model.graph.input if i.name not in initialized]
    outputs = [
        _read(path.with_name(f"{name}_output_{i}.pb"), output.type)
        for i, output in enumerate(model.graph.output)
    ]
    specification = _folder("data", "real", name.replace("light", "test", 1)) / "data.json"
    tolerances = json.loads(specification.read_text())
    return Case(
        name=name,
        model=model,
        source=path,
        data_sets=(_data_set(model, inputs, outputs),),
        rtol=tolerances.get("rtol", 1e-3),
        atol=tolerances.get("atol", 1e-7),
    )


def _registry(kind: str) -> list[Any]:
    package = importlib.import_module(f"{_PACKAGE}.{kind}")
    name = {"node": "_NodeTestCases", "model": "_SimpleModelTestCases"}[kind]
    registry: list[Any] = getattr(package, name)
    return registry


def _of_code(case: Any) -> Case:
    return Case(
        name=case.name,
        model=case.model,
        source=case.model.SerializeToString(),
        data_sets=tuple(
            _data_set(case.model, [*map(_as_array, inputs)], [*map(_as_array, outputs)])
            for inputs, outputs in case.data_sets
        ),
        rtol=case.rtol,
        atol=case.atol,
    )


def _data_set(model: onnx.ModelProto, inputs: list[Any], outputs: list[Any]) -> DataSet:
    initialized = {tensor.name for tensor in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in initialized]
    assert len(outputs) == len(model.graph.output)
    return DataSet(dict(zip(names, inputs, strict=True)), outputs)


def _as_array(value: Any) -> Any:
    """Arrays as they are; NumPy's scalars too become arrays, sequences and None stay."""
    import onnx

    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _read_all(folder: Path, prefix: str, types: list[onnx.TypeProto]) -> list[Any]:
    count = len(list(folder.glob(f"{prefix}_*.pb")))
    return [_read(folder / f"{prefix}_{i}.pb", types[i]) for i in range(count)]


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    import onnx

    data = path.read_bytes()
    if kind.HasField("tensor_type"):
        return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))
    assert kind.HasField("sequence_type"), f"{path}: expected a tensor or a sequence, got {kind}"
    return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
