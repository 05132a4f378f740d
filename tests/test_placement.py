"""Where the nodes of a model run, and what is told of it."""

import json

import pytest
from models_for_tests import echo, path_of

import pyruntime
from pyruntime.frontends import model_messages


def test_every_node_has_a_device_and_a_provider() -> None:
    with pyruntime.Runtime() as runtime:
        model = runtime.load("m", path_of("add_sub"))
        assert {(node.device, node.provider) for node in model.placement} == {
            ("cpu", "CPUExecutionProvider")
        }
        assert sorted(node.op_type for node in model.placement) == ["Add", "Sub"]
        (counted,) = model.stats().placement
        assert counted == pyruntime.ProviderNodes(
            "cpu", "CPUExecutionProvider", 2, {"Add": 1, "Sub": 1}
        )


def test_the_configuration_that_clients_read_counts_them() -> None:
    with pyruntime.Runtime() as runtime:
        model = runtime.load("m", path_of("add_sub"))
        told = model_messages.config(model, None).parameters["placement"].string_value
        assert json.loads(told) == {"cpu": {"CPUExecutionProvider": {"Add": 1, "Sub": 1}}}


def test_an_engine_without_providers_places_nothing() -> None:
    with pyruntime.Runtime() as runtime:
        model = runtime.load("m", options=echo())
        assert model.placement == ()
        assert model.stats().placement == ()
        assert "placement" not in model_messages.config(model, None).parameters


def test_nodes_that_fall_back_unasked_fail_the_load_and_are_named() -> None:
    if not any(item.name == "AzureExecutionProvider" for item in pyruntime.devices()):
        pytest.skip("this ONNX Runtime has no provider beside the CPU's")
    options = pyruntime.ModelOptions(providers=(pyruntime.ProviderOptions("azure"),))
    with pyruntime.Runtime() as runtime:
        with pytest.raises(pyruntime.EngineError, match=r"nodes fall back .*'azure': .*\(?Add"):
            runtime.load("m", path_of("add_sub"), options=options)
        allowed = (*options.providers, pyruntime.ProviderOptions("cpu"))
        model = runtime.load(
            "m", path_of("add_sub"), options=pyruntime.ModelOptions(providers=allowed)
        )
        assert {node.provider for node in model.placement} == {"CPUExecutionProvider"}
