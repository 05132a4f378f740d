"""Shadows from Python: answers compared, never returned, and what is counted of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from models_for_tests import echo, rows

from pyruntime import (
    InvalidInput,
    Latest,
    Route,
    Runtime,
    Shadow,
    ShadowStats,
    Split,
    Tolerance,
    Version,
)
from pyruntime.routing import route_from_mapping, route_to_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_ROW = np.arange(4, dtype=np.float32)[None]


def scaled(factor: float) -> bytes:
    """A model whose output is its input times a factor."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def settled(runtime: Runtime, name: str = "m") -> ShadowStats:
    """What is counted once nothing is under way."""
    deadline = time.monotonic() + 30
    while True:
        stats = runtime.route_stats(name).shadow
        assert stats is not None
        ended = stats.dropped + stats.skipped + stats.failed + stats.matched + stats.mismatched
        assert ended <= stats.sampled
        if ended == stats.sampled:
            return stats
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        for version, factor in ((1, 2.0), (2, 2.002), (3, 2.0)):
            runtime.load("m", scaled(factor), version=version)
        yield runtime


def test_answers_are_compared_and_never_returned(runtime: Runtime) -> None:
    runtime.set_route("m", Route(Version(1), Shadow(2)))
    model = runtime.model("m")
    for _ in range(10):
        np.testing.assert_array_equal(model.infer({"x": ONE_ROW})["y"], 2 * ONE_ROW)
    stats = settled(runtime)
    assert (stats.sampled, stats.mismatched) == (10, 10)
    (output,) = stats.outputs
    assert (output.name, output.mismatched) == ("y", 10)
    assert output.max_absolute == pytest.approx(0.006, rel=1e-2)
    assert output.max_relative == pytest.approx(1e-3, rel=1e-2)
    assert stats.last_problem == "output 'y': element 1: expected 2, got 2.00200009"
    assert runtime.model("m", 2).stats().completed == 10


@pytest.mark.parametrize(
    ("shadow", "matches"),
    [
        (Shadow(3), True),
        (Shadow(2), False),
        (Shadow(2, tolerance=Tolerance(relative=2e-3)), True),
        (Shadow(2, tolerance=Tolerance(absolute=1e-3)), False),
        (Shadow(2, outputs={"y": Tolerance(absolute=0.01)}), True),
        (Shadow(2, tolerance=Tolerance(absolute=1), outputs={"y": Tolerance()}), False),
    ],
)
def test_tolerances_are_of_all_outputs_or_of_one(
    runtime: Runtime, shadow: Shadow, matches: bool
) -> None:
    runtime.set_route("m", Route(Version(1), shadow))
    runtime.model("m").infer({"x": ONE_ROW})
    stats = settled(runtime)
    assert (stats.matched, stats.mismatched) == (int(matches), int(not matches))


def test_results_may_be_written_to_while_they_are_compared(runtime: Runtime) -> None:
    many = np.ones((1024, 4), np.float32)
    runtime.set_route("m", Route(Version(1), Shadow(3)))
    model = runtime.model("m")
    for _ in range(20):
        outputs = model.infer({"x": many})
        outputs["y"][:] = -1
        many += 1
    assert settled(runtime).mismatched == 0


async def test_futures_and_coroutines_are_copied_too(runtime: Runtime) -> None:
    runtime.set_route("m", Route(Version(1), Shadow(3)))
    model = runtime.model("m")
    futures = [model.submit({"x": ONE_ROW}) for _ in range(5)]
    for future in futures:
        future.result()
    await model.infer_async({"x": ONE_ROW}, outputs=["y"])
    stats = settled(runtime)
    assert stats.sampled == 6
    assert stats.mismatched + stats.failed + stats.skipped == 0


def test_a_shadow_of_the_latest_sees_what_the_latest_answers(runtime: Runtime) -> None:
    runtime.set_route("m", Route(Latest(), Shadow(1)))
    runtime.model("m").infer({"x": ONE_ROW})
    runtime.model("m", 2).infer({"x": ONE_ROW})  # by number: not the route's
    runtime.set_labels("m", {"stable": 3})
    runtime.model("m", label="stable").infer({"x": ONE_ROW})  # by label: neither
    assert settled(runtime).matched == 1


def test_a_shadow_of_a_split_is_of_the_other_versions(runtime: Runtime) -> None:
    runtime.set_route("m", Route(Split({1: 50, 2: 50}), Shadow(2)))
    model = runtime.model("m")
    for _ in range(100):
        model.infer({"x": ONE_ROW})
    stable, canary = runtime.route_stats("m").arms
    assert settled(runtime).sampled == stable.assigned
    assert runtime.model("m", 2).stats().completed == canary.completed + settled(runtime).mismatched


def test_strings_are_copied_whole() -> None:
    with Runtime() as runtime:
        for version in (1, 2):
            runtime.load("m", version=version, options=echo("string", (-1,)))
        runtime.set_route("m", Route(Version(1), Shadow(2)))
        for _ in range(5):
            runtime.model("m").infer({"x": np.array(["a\0b", "", "grüße"], object)})
        stats = settled(runtime)
        assert (stats.matched, stats.mismatched) == (5, 0)


def test_a_label_moves_and_its_shadow_goes_on_counting(runtime: Runtime) -> None:
    runtime.set_labels("m", {"stable": 1, "next": 2})
    runtime.set_route("m", Route(Version(1), Shadow("next")))
    runtime.model("m").infer({"x": ONE_ROW})
    assert settled(runtime).mismatched == 1
    runtime.set_label("m", "next", 3)
    runtime.model("m").infer({"x": ONE_ROW})
    stats = settled(runtime)
    assert (stats.matched, stats.mismatched) == (1, 1)


def test_what_is_too_large_is_dropped() -> None:
    with Runtime() as runtime:
        for version in (1, 2):
            runtime.load("m", version=version, options=echo())
        runtime.set_route("m", Route(Version(1), Shadow(2)))
        runtime.model("m").infer(rows(1, 300_000))  # 4.8 MB
        assert settled(runtime).dropped == 1


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (3, "shadow: expected a table, got 3"),
        ({}, "shadow: expected the key 'target', found none"),
        ({"target": 0}, "shadow: target: expected a version from 1 on or a label, got 0"),
        ({"target": 1, "percent": 0.05}, "shadow: percent: expected percent from 0 to 100"),
        ({"target": 1, "tolerance": {"absolute": -1}}, "absolute: expected a number from 0 on"),
        ({"target": 1, "outputs": {"y": 3}}, "shadow: outputs: y: expected a table, got 3"),
        ({"target": 1, "speed": 3}, "got 'speed'"),
    ],
)
def test_a_bad_shadow_is_refused_by_its_place(mapping: object, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        route_from_mapping({"policy": "latest", "shadow": mapping}, where="m/model.toml: route")
    assert str(caught.value).startswith("m/model.toml: route: shadow")
    assert message in str(caught.value)


def test_a_shadow_comes_back_from_its_mapping() -> None:
    route = Route(Version(1), Shadow("next", 12.5, Tolerance(1e-3, 1e-4), {"y": Tolerance(1)}))
    assert route_from_mapping(route_to_mapping(route)) == route
