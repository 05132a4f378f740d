"""A GPU's memory: what is taken goes back, and when there is none more the model lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from gpu_echo import echo_options
from models_for_tests import path_of

import pyruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Gpu

CYCLES = 100
# Of one request's input: more than the driver keeps for itself.
LARGE = np.ones((16 << 10, 1024), "f4")


def check_cycles(gpu: Gpu, cycle: Callable[[], None], figure: Callable[[str], None]) -> None:
    """Memory in use after many cycles is that after the first, which keeps what is loaded once."""
    cycle()
    free, total = gpu.memory()
    used_before = total - free
    for _ in range(CYCLES):
        cycle()
    free, _ = gpu.memory()
    grown = total - free - used_before
    figure(f"{grown:+d} bytes of {used_before} in use after {CYCLES} cycles")
    assert grown <= used_before // 100


def test_cycles_of_loading_and_unloading_give_memory_back(
    gpu: Gpu, runtime: pyruntime.Runtime, figure: Callable[[str], None]
) -> None:
    x = np.ones((256, 1024), "f4")

    def cycle() -> None:
        with runtime.load("echo", options=echo_options(1)) as model:
            assert (model.infer({"x": x})["output_0"] == x).all()
            output = model.infer({"x": x}, outputs_on="device")["output_0"]
        del output

    check_cycles(gpu, cycle, figure)


def test_cycles_of_a_network_give_memory_back(
    gpu: Gpu,
    cuda_provider: pyruntime.ProviderOptions,
    runtime: pyruntime.Runtime,
    figure: Callable[[str], None],
) -> None:
    options = pyruntime.ModelOptions(
        providers=(cuda_provider,), instances=(pyruntime.InstanceGroup("cuda:0", 1),)
    )

    def cycle() -> None:
        with runtime.load("network", path_of("mlp_64_256_256_10"), options=options) as model:
            model.warm_up(rows=8, runs=2)

    check_cycles(gpu, cycle, figure)


def test_a_model_lives_on_when_memory_was_short(
    gpu: Gpu, runtime: pyruntime.Runtime, figure: Callable[[str], None]
) -> None:
    model = runtime.load("echo", options=echo_options(1))
    small = np.ones((1, 1024), "f4")
    assert (model.infer({"x": small})["output_0"] == small).all()
    taken: list[int] = []
    size_bytes = gpu.memory()[0]
    while size_bytes >= 1 << 20:
        address = gpu.allocate(size_bytes)
        if address is None:
            size_bytes //= 2
        else:
            taken.append(address)
    try:
        with pytest.raises(pyruntime.Overloaded) as caught:
            model.infer({"x": LARGE})
        assert (model.infer({"x": small})["output_0"] == small).all()
    finally:
        for address in taken:
            gpu.free(address)
    assert (model.infer({"x": LARGE})["output_0"] == LARGE).all()
    figure(f"refused, then served: {str(caught.value)[:60]}")
