"""The backend tests of the `onnx` package: in this process all of them, over gRPC a sample.

A case passes if pyruntime answers as the case expects. Two kinds of cases cannot: models with
inputs or outputs that are refused, and the excluded ones, which ONNX Runtime itself does not pass.
"""

from __future__ import annotations

import platform
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx_backend import cases, outcome
from onnx_backend.exclusions import BY_NAME, EXCLUSIONS, MACHINE, ONNX, ONNXRUNTIME

import pyruntime
from pyruntime.client import Client
from pyruntime.frontends import FrontEndOptions, front_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx_backend.cases import Case

IS_KNOWN_VERSION = version("onnx") == ONNX and version("onnxruntime") == ONNXRUNTIME


@pytest.fixture(scope="module")
def runtime() -> Iterator[pyruntime.Runtime]:
    with pyruntime.Runtime() as runtime:
        yield runtime


class Tally:
    """Names of the cases that were held to something, by what that was."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.sources: set[str] = set()

    def check(self, runtime: pyruntime.Runtime, source: str, cases_: tuple[Case, ...]) -> None:
        """Hold every case of `source` to what is expected of it; name all that fail."""
        faults = []
        for case in cases_:
            if outcome.refused_tensors(case.model):
                kind, fault = "refused", fault_of_refused(runtime, case)
            else:
                kind, fault = fault_of_served(runtime, case)
            self.names[f"{source}: {case.name}"] = kind
            if fault:
                faults.append(f"{case.name}: {fault}")
        self.sources.add(source)
        assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def tally() -> Tally:
    return Tally()


def fault_of_refused(runtime: pyruntime.Runtime, case: Case) -> str:
    """Say what is wrong with how a model was refused; empty: nothing."""
    names = outcome.refused_tensors(case.model)
    try:
        runtime.load("case", case.source, options=outcome.OPTIONS).unload()
    except pyruntime.Unimplemented as error:
        is_named = any(f"put '{name}'" in str(error) for name in names)
        return "" if is_named else f"expected one of {names} to be named, got: {error}"
    except pyruntime.EngineError as error:
        plain = outcome.of_plain_engine(case)
        return "" if plain.end == "load" else f"got: {error}; plain ONNX Runtime: {plain}"
    return f"expected to be refused because of {names}, was loaded"


def fault_of_served(runtime: pyruntime.Runtime, case: Case) -> tuple[str, str]:
    """Say what kind of case it is, and what is wrong with how it ended; empty: nothing."""
    ours = outcome.of_pyruntime(runtime, case)
    exclusion = BY_NAME.get(case.name)
    if ours.end == "as expected":
        is_stale = exclusion is not None and not exclusion.may_pass and IS_KNOWN_VERSION
        return "passed", "passes, and need not be excluded" if is_stale else ""
    plain = outcome.of_plain_engine(case)
    if not outcome.are_same(ours, plain):
        return "failed", f"got: {ours}; plain ONNX Runtime: {plain}"
    if exclusion is None and IS_KNOWN_VERSION and platform.machine() == MACHINE:
        return "failed", f"as plain ONNX Runtime, but not excluded: {ours}"
    if exclusion is not None and IS_KNOWN_VERSION and ours.end != exclusion.end:
        return "failed", f"excluded as '{exclusion.end}', got: {ours}"
    if ours.end == "numbers" and not outcome.have_same_form(case, ours):
        return "failed", "got outputs of other dtypes or shapes"
    return "excluded", ""


@pytest.mark.parametrize("module", cases.generating_modules())
def test_generated_cases(runtime, tally, module) -> None:
    tally.check(runtime, module, cases.generated(module))


@pytest.mark.parametrize("folder", cases.folders())
def test_cases_in_files(runtime, tally, folder) -> None:
    tally.check(runtime, folder, (cases.of_folder(folder),))


@pytest.mark.parametrize("name", cases.light_models())
def test_networks_of_the_model_zoo(runtime, tally, name) -> None:
    tally.check(runtime, name, (cases.of_light_model(name),))


def test_no_case_was_left_out(tally) -> None:
    sources = {*cases.generating_modules(), *cases.folders(), *cases.light_models()}
    if tally.sources != sources:
        pytest.skip("only part of the cases was selected, or some failed")
    names = Counter(name.rpartition(": ")[2] for name in tally.names)
    generated = cases.names_of_all_generated()
    folders = [folder.rpartition("/")[2] for folder in cases.folders()]
    expected = [*generated, *folders, *cases.light_models()]
    assert names == Counter(expected)
    kinds = Counter(tally.names.values())
    print(", ".join(f"{kind}: {count}" for kind, count in kinds.items()))
    assert sum(kinds.values()) == len(expected)
    assert kinds["passed"] > 0.8 * len(expected)
    if IS_KNOWN_VERSION:
        unknown = set(BY_NAME) - set(names)
        assert not unknown, f"excluded, but no such case: {unknown}"


def test_every_exclusion_has_a_reason() -> None:
    assert all(exclusion.reason and exclusion.names for exclusion in EXCLUSIONS)
    assert len({exclusion.reason for exclusion in EXCLUSIONS}) == len(EXCLUSIONS)


# Over gRPC: of these modules one case for every combination of dtypes, and of whether a tensor is
# a scalar or has no elements.
SAMPLED = (
    *("add", "affinegrid", "bitshift", "bitwiseand", "cast", "castlike", "clip", "compress"),
    *("constant", "constantofshape", "cumsum", "einsum", "equal", "greater", "identity", "isnan"),
    *("max", "mod", "nonzero", "onehot", "pow", "quantizelinear", "rangeop", "reducemax"),
    *("reducesum", "reversesequence", "shape", "slice", "split", "string_concat"),
    *("string_split", "topk", "unique", "where"),
)
DTYPES = {
    *("bool", "object", "bfloat16", "float16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


def sample() -> list[Case]:
    chosen: dict[object, Case] = {}
    for module in SAMPLED:
        for case in cases.generated(f"node.{module}"):
            if case.name in BY_NAME or outcome.refused_tensors(case.model):
                continue
            data = case.data_sets[0]
            key = tuple(
                (array.dtype.name, array.ndim == 0, array.size == 0)
                for array in (*data.inputs.values(), *data.outputs)
            )
            chosen.setdefault(key, case)
    return list(chosen.values())


@pytest.fixture(scope="module")
def served(runtime, tmp_path_factory) -> Iterator[tuple[str, list[Case]]]:
    """Address of a server, and the cases whose models it serves."""
    socket: Path = tmp_path_factory.mktemp("grpc") / "socket"
    served_cases = sample()
    models = [
        runtime.load(case.name, case.source, options=outcome.OPTIONS) for case in served_cases
    ]
    server = front_end("grpc")(runtime, FrontEndOptions(addresses=(f"unix:{socket}",)))
    server.start()
    yield server.addresses[0], served_cases
    server.stop()
    for model in models:
        model.unload()


def compare_over_grpc(case: Case, result: dict[str, np.ndarray[Any, Any]]) -> str:
    """Hold an answer to the case; strings came as bytes, bfloat16 perhaps as float32."""
    outputs = []
    for name, expected in zip(case.output_names, case.data_sets[0].outputs, strict=True):
        output = result[name]
        if expected.dtype == object:
            texts = [item.decode() for item in output.flat]
            output = np.array(texts, object).reshape(output.shape)
        elif expected.dtype.name == "bfloat16":
            # tritonclient's dtype for it depends on its version.
            assert output.dtype in (np.float32, expected.dtype)
            output = output.astype(expected.dtype)
        outputs.append(output)
    compared = outcome.compared(case, [outputs])
    return "" if compared.end == "as expected" else f"{case.name}: {compared}"


def test_a_sample_of_all_dtypes_passes_over_grpc(served) -> None:
    address, sampled = served
    faults, dtypes, count = [], set(), 0
    with Client(address) as client:
        for case in sampled:
            inputs = case.data_sets[0].inputs
            dtypes |= {output.dtype.name for output in case.data_sets[0].outputs}
            if any(array.dtype.name == "bfloat16" for array in inputs.values()):
                continue  # this client has no dtype for it; tritonclient below has
            answer = client.infer(case.name, inputs, timeout_s=30)
            assert set(answer.outputs) == set(case.output_names)
            faults.append(compare_over_grpc(case, answer.outputs))
            count += 1
    assert not any(faults), "\n".join(filter(None, faults))
    assert count >= 60
    assert dtypes >= DTYPES


def test_a_sample_of_all_dtypes_passes_by_tritonclient(served) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    from tritonclient.utils import np_to_triton_dtype

    address, sampled = served
    faults, dtypes = [], set()
    with triton.InferenceServerClient(address) as client:
        for case in sampled:
            inputs = []
            for name, array in case.data_sets[0].inputs.items():
                dtypes.add(array.dtype.name)
                # Its versions take bfloat16 as float32, or as it is.
                is_unknown = np_to_triton_dtype(array.dtype) is None
                datatype = "BF16" if is_unknown else np_to_triton_dtype(array.dtype)
                inputs.append(triton.InferInput(name, list(array.shape), datatype))
                inputs[-1].set_data_from_numpy(array.astype(np.float32) if is_unknown else array)
            answer = client.infer(case.name, inputs, client_timeout=30)
            result = {name: answer.as_numpy(name) for name in case.output_names}
            faults.append(compare_over_grpc(case, result))
    assert not any(faults), "\n".join(filter(None, faults))
    assert len(faults) >= 60
    assert dtypes >= DTYPES
