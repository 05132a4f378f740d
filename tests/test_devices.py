"""What `devices()` says of this machine."""

import numpy as np
from models_for_tests import echo

import pyruntime


def test_backends_engines_and_providers_are_listed_with_reasons() -> None:
    listed = pyruntime.devices()
    by_name = {item.name: item for item in listed}
    assert by_name["cpu"].kind == "backend"
    assert by_name["cpu"].is_present
    assert by_name["simulated"].count >= 1
    assert by_name["onnx"].kind == "engine"
    assert by_name["onnx"].version.count(".") == 2
    assert by_name["CPUExecutionProvider"].engine == "onnx"
    assert by_name["echo"].is_present
    for item in listed:
        assert item.is_present == (item.count > 0)
        assert item.is_present != bool(item.why_absent)


def test_models_run_on_the_simulated_device() -> None:

    options = echo()
    options = pyruntime.ModelOptions(
        engine="echo",
        echo_inputs=options.echo_inputs,
        instances=(pyruntime.InstanceGroup("simulated:0", 2),),
    )
    with pyruntime.Runtime() as runtime:
        model = runtime.load("m", options=options)
        futures = [model.submit({"x": np.full((2, 4), i, "f4")}) for i in range(50)]
        for i, future in enumerate(futures):
            result = future.result(10)["output_0"]
            assert result.min() == result.max() == i
