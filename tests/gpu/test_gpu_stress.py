"""Many threads, sizes and places of memory at once: every answer is the right one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

import numpy as np
from gpu_echo import echo_options
from models_for_tests import path_of

import pyruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Gpu

SECONDS = 2.0


def run_threads(work: Callable[[int, float], int], threads: int = 8) -> int:
    """Run `work(seed, until)` on threads; gives the sum of what they give, raises what they do."""
    counts: list[int] = []
    errors: list[BaseException] = []
    until = time.monotonic() + SECONDS

    def run(seed: int) -> None:
        try:
            counts.append(work(seed, until))
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=run, args=(seed,)) for seed in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts)


def test_the_echo_model_under_stress(
    gpu: Gpu, runtime: pyruntime.Runtime, figure: Callable[[str], None]
) -> None:
    model = runtime.load("echo", options=echo_options())

    def work(seed: int, until: float) -> int:
        random = np.random.default_rng(seed)
        count = 0
        while time.monotonic() < until:
            values = [
                random.random((int(random.integers(1, 9)), 1024), dtype="f4") for _ in range(8)
            ]
            places = ["device" if one else "host" for one in random.integers(0, 2, len(values))]
            futures = [
                model.submit({"x": value}, outputs_on=place)
                for value, place in zip(values, places, strict=True)
            ]
            wait(futures)
            for value, place, future in zip(values, places, futures, strict=True):
                output = future.result()["output_0"]
                if place == "device":
                    # What stays on the GPU goes in again, without a copy through the host.
                    output = model.infer({"x": output})["output_0"]
                np.testing.assert_array_equal(output, value)
                count += 1
        return count

    count = run_threads(work)
    stats = model.stats()
    assert stats.failed == 0
    assert count > 0
    figure(f"{count} requests in {SECONDS:.0f} s, {stats.batches} batches")


def test_a_network_under_stress(
    cuda_provider: pyruntime.ProviderOptions,
    runtime: pyruntime.Runtime,
    figure: Callable[[str], None],
) -> None:
    name = "mlp_64_256_256_10"
    on_cpu = runtime.load("cpu", path_of(name))
    options = pyruntime.ModelOptions(
        providers=(cuda_provider,), instances=(pyruntime.InstanceGroup("cuda:0", 1),)
    )
    on_gpu = runtime.load("gpu", path_of(name), options=options)
    [spec] = on_cpu.inputs

    def work(seed: int, until: float) -> int:
        random = np.random.default_rng(seed)
        count = 0
        while time.monotonic() < until:
            inputs = {spec.name: random.random((int(random.integers(1, 33)), 64), dtype="f4")}
            expected = on_cpu.infer(inputs)
            for output, value in on_gpu.infer(inputs).items():
                np.testing.assert_allclose(value, expected[output], rtol=2e-3, atol=2e-3)
            count += 1
        return count

    figure(f"{run_threads(work)} requests of {name} as on the CPU")
