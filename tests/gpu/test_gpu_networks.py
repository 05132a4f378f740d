"""ONNX Runtime's CUDA provider: the onnx package's node tests, and networks as on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models_for_tests import path_of
from onnx_backend import cases, outcome

import pyruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx_backend.cases import Case

NETWORKS = {
    "mlp_64_256_256_10": 1e-4,
    "conv_64": 1e-3,
    "conv_224": 1e-3,
    "text_encoder": 1e-3,
}


def fault_of(runtime: pyruntime.Runtime, case: Case, options: pyruntime.ModelOptions) -> str:
    """Say how a case ends otherwise on the GPU than it must: "" where it does not.

    What the CPU gets wrong, or cannot run, need not be right on the GPU.
    """
    try:
        model = runtime.load("case", case.source, options=options)
    except pyruntime.PyRuntimeError as error:
        on_cpu = outcome.of_plain_engine(case)
        return "" if on_cpu.end == "load" else f"load: {error}"
    with model:
        results: list[list[Any]] = []
        try:
            for data in case.data_sets:
                result = model.infer(data.inputs)
                results.append([result[name] for name in case.output_names])
        except pyruntime.PyRuntimeError as error:
            on_cpu = outcome.of_plain_engine(case)
            return "" if on_cpu.end in ("load", "run") else f"run: {error}"
    ours = outcome.compared(case, results)
    if ours.end == "as expected" or outcome.of_plain_engine(case).end != "as expected":
        return ""
    return str(ours)


def test_the_node_tests_of_onnx(
    cuda_provider: pyruntime.ProviderOptions,
    runtime: pyruntime.Runtime,
    figure: Callable[[str], None],
) -> None:
    # What CUDA has no kernel for runs on the CPU: its results must be right all the same.
    options = pyruntime.ModelOptions(
        providers=(cuda_provider, pyruntime.ProviderOptions("cpu")),
        intra_op_threads=1,
        inter_op_threads=1,
    )
    faults = []
    count = 0
    for module in cases.generating_modules():
        if not module.startswith("node."):
            continue
        for case in cases.generated(module):
            if outcome.refused_tensors(case.model):
                continue
            count += 1
            if fault := fault_of(runtime, case, options):
                faults.append(f"{case.name}: {fault}")
    figure(f"{count - len(faults)} of {count} cases")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_on_the_cpu(
    cuda_provider: pyruntime.ProviderOptions,
    runtime: pyruntime.Runtime,
    figure: Callable[[str], None],
    name: str,
    device: str,
) -> None:
    # device: where inputs and outputs are, in the GPU's memory or brought there by the engine.
    on_cpu = runtime.load("cpu", path_of(name))
    # TF32 rounds products to 10 bits: as much as anybody would call parity is without it.
    provider = pyruntime.ProviderOptions(cuda_provider.name, {"use_tf32": "0"})
    options = pyruntime.ModelOptions(
        providers=(provider, pyruntime.ProviderOptions("cpu")),
        instances=(pyruntime.InstanceGroup(device, 1),),
    )
    on_gpu = runtime.load("gpu", path_of(name), options=options)
    random = np.random.default_rng(7)
    worst = 0.0
    for rows in (1, 3, 8):
        inputs = {}
        for spec in on_cpu.inputs:
            shape = [rows, *(16 if size < 0 else size for size in spec.shape[1:])]
            inputs[spec.name] = (
                random.integers(0, 2, shape).astype(spec.dtype)
                if spec.dtype.startswith(("int", "uint", "bool"))
                else random.random(shape).astype(spec.dtype)
            )
        expected = on_cpu.infer(inputs)
        for output, value in on_gpu.infer(inputs).items():
            scale = max(float(np.abs(expected[output]).max()), 1e-6)
            worst = max(worst, float(np.abs(value - expected[output]).max()) / scale)
    figure(f"{name} on {device}: {worst:.1e} of the largest value")
    assert worst <= NETWORKS[name]
