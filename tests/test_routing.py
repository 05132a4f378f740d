"""Labels and routes from Python: what is chosen, what is counted, what is refused."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from models_for_tests import echo, rows

from pyruntime import (
    Arm,
    Assignment,
    Bandit,
    Experiment,
    InvalidInput,
    Label,
    Latest,
    ModelNotFound,
    Route,
    Runtime,
    Split,
    Version,
)
from pyruntime.config.files import model_config_from_mapping
from pyruntime.routing import route_from_mapping, route_to_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES = [
    Route(),
    Route(Version(3)),
    Route(Label("stable")),
    Route(Split({"stable": 99.9, 7: 0.1})),
    Route(Split({1: 100}, salt="s")),
    Route(Experiment("e", {"a": Arm("stable", 50), "b": Arm(2, 50.0)})),
    Route(Bandit("b", {"x": 1, "y": "canary"}, algorithm="ucb1")),
]


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        for version in (1, 2, 3):
            runtime.load("m", version=version, options=echo())
        yield runtime


# What is chosen


def test_a_label_is_followed_at_each_call(runtime: Runtime) -> None:
    runtime.set_labels("m", {"stable": 1, "canary": 2})
    stable = runtime.model("m", label="stable")
    assert stable.version == 1
    runtime.set_label("m", "stable", 2)
    assert stable.version == 2
    assert stable.infer_routed(rows(1))[1].version == 2
    assert runtime.labels("m") == {"stable": 2, "canary": 2}


def test_a_removed_label_leads_nowhere(runtime: Runtime) -> None:
    runtime.set_label("m", "stable", 1)
    stable = runtime.model("m", label="stable")
    runtime.set_label("m", "stable", None)
    with pytest.raises(ModelNotFound, match="has no label 'stable'; it has none"):
        stable.infer(rows(1))
    with pytest.raises(ModelNotFound, match="no label 'stable'"):
        runtime.set_label("m", "stable", None)


def test_labels_move_together_or_not_at_all(runtime: Runtime) -> None:
    runtime.set_labels("m", {"stable": 1})
    with pytest.raises(ModelNotFound, match="has no version 9; loaded: 1, 2, 3"):
        runtime.set_labels("m", {"stable": 2, "canary": 9})
    assert runtime.labels("m") == {"stable": 1}


@pytest.mark.parametrize(
    ("policy", "version"),
    [(Latest(), 3), (Version(2), 2), (Label("stable"), 1), (Split({2: 100}), 2)],
)
def test_a_route_decides_where_neither_version_nor_label_is_named(
    runtime: Runtime, policy: Any, version: int
) -> None:
    model = runtime.model("m")
    runtime.set_label("m", "stable", 1)
    runtime.set_route("m", policy)
    assert model.version == version
    assert model.infer_routed(rows(1))[1] == Assignment(version, "", "")
    assert runtime.route("m") == Route(policy)
    assert runtime.model("m", 3).infer_routed(rows(1))[1].version == 3


def test_a_key_stays_on_its_version(runtime: Runtime) -> None:
    runtime.set_route("m", Split({1: 50, 2: 50}))
    model = runtime.model("m")
    keys = [f"user-{i}" for i in range(200)]
    first = [model.infer_routed(rows(1), route_key=key)[1].version for key in keys]
    again = [model.infer_routed(rows(1), route_key=key)[1].version for key in keys]
    assert first == again
    assert set(first) == {1, 2}
    runtime.set_route("m", Split({1: 60, 2: 40}))
    later = [model.infer_routed(rows(1), route_key=key)[1].version for key in keys]
    moves = {(a, b) for a, b in zip(first, later, strict=True) if a != b}
    assert moves == {(2, 1)}


def test_every_way_of_calling_says_who_answered(runtime: Runtime) -> None:
    runtime.set_route("m", Experiment("e", {"a": Arm(1, 0), "b": Arm(2, 100)}))
    model = runtime.model("m")
    expected = Assignment(2, "e", "b")
    assert model.infer_routed(rows(1), request_id="1")[1] == expected
    future = model.submit(rows(1), request_id="2", route_key="k")
    assert future.assignment == expected  # type: ignore[attr-defined]
    future.result()
    runtime.set_route("m", Latest())
    assert model.submit(rows(1)).assignment is None  # type: ignore[attr-defined]


async def test_coroutines_are_counted_too(runtime: Runtime) -> None:
    runtime.set_route("m", Experiment("e", {"a": Arm(1, 0), "b": Arm(2, 100)}))
    await runtime.model("m").infer_async(rows(1), route_key="k", request_id="r")
    runtime.feedback("m", "r", 1.0)
    assert [arm.completed for arm in runtime.route_stats("m").arms] == [0, 1]


# What is counted


def test_arms_count_their_requests(runtime: Runtime) -> None:
    runtime.set_route("m", Split({1: 50, 2: 50}))
    model = runtime.model("m")
    seen = Counter(model.infer_routed(rows(1))[1].version for _ in range(200))
    stats = runtime.route_stats("m")
    assert [arm.target for arm in stats.arms] == [1, 2]
    assert [arm.completed for arm in stats.arms] == [seen[1], seen[2]]
    for arm in stats.arms:
        assert arm.assigned == arm.completed
        assert sum(count for _, count in arm.buckets) == arm.total.count == arm.completed


def test_a_version_alone_has_no_arms(runtime: Runtime) -> None:
    assert runtime.route_stats("m").arms == ()
    runtime.set_route("m", Version(1))
    runtime.model("m").infer(rows(1))
    assert runtime.route_stats("m").arms == ()


def test_a_request_refused_is_counted_as_refused(runtime: Runtime) -> None:
    runtime.set_route("m", Split({1: 100}))
    with pytest.raises(InvalidInput):
        runtime.model("m").infer({})
    with pytest.raises(InvalidInput):
        runtime.model("m").submit({})
    (arm,) = runtime.route_stats("m").arms
    assert (arm.assigned, arm.refused) == (2, 2)


def test_a_bandit_learns_from_feedback(runtime: Runtime) -> None:
    runtime.set_route("m", Bandit("b", {"bad": 1, "good": 2}, algorithm="ucb1"))
    model = runtime.model("m")
    for i in range(300):
        _, assignment = model.infer_routed(rows(1), request_id=str(i))
        runtime.feedback("m", str(i), 1.0 if assignment.arm == "good" else 0.0)
    bad, good = runtime.route_stats("m").arms
    assert (bad.mean_reward, good.mean_reward) == (0, 1)
    assert good.assigned > 5 * bad.assigned


@pytest.mark.parametrize("reward", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_reward_is_a_number_from_0_to_1(runtime: Runtime, reward: float) -> None:
    runtime.set_route("m", Bandit("b", {"a": 1}))
    runtime.model("m").infer(rows(1), request_id="r")
    with pytest.raises(InvalidInput, match="model 'm': reward: expected 0 to 1, got"):
        runtime.feedback("m", "r", reward)


def test_feedback_needs_an_experiment(runtime: Runtime) -> None:
    for policy in (Latest(), Split({1: 100})):
        runtime.set_route("m", policy)
        with pytest.raises(ModelNotFound, match="expected an experiment or a bandit"):
            runtime.feedback("m", "r", 1.0)


def test_who_names_a_version_or_a_label_is_in_no_arm(runtime: Runtime) -> None:
    runtime.set_labels("m", {"stable": 1})
    arms = {"a": Arm("stable", 50), "b": Arm(2, 50)}
    runtime.set_route("m", Experiment("e", arms))
    for model, version in ((runtime.model("m", 2), 2), (runtime.model("m", label="stable"), 1)):
        _, assignment = model.infer_routed(rows(1), request_id="r", route_key="user")
        assert (assignment.version, assignment.experiment, assignment.arm) == (version, "", "")
        with pytest.raises(ModelNotFound, match="'r'"):
            runtime.feedback("m", "r", 1.0)
    assert [arm.assigned for arm in runtime.route_stats("m").arms] == [0, 0]


# What is declared


def test_what_is_set_goes_before_what_is_declared(runtime: Runtime) -> None:
    runtime.declare_routing("m", labels={"stable": 1}, route=Route(Label("stable")))
    model = runtime.model("m")
    assert model.version == 1
    runtime.set_label("m", "stable", 2)
    assert model.version == 2
    runtime.declare_routing("m", labels={"stable": 1}, route=Route(Label("stable")))
    assert model.version == 2
    runtime.set_route("m", Latest())
    assert model.version == 3
    runtime.set_route("m", None)
    assert model.version == 2


def test_what_is_declared_may_be_loaded_later() -> None:
    with Runtime() as runtime:
        runtime.declare_routing("m", labels={"stable": 2}, route=Route(Label("stable")))
        with pytest.raises(ModelNotFound, match="is not loaded"):
            runtime.model("m")
        runtime.load("m", version=3, options=echo())
        with pytest.raises(ModelNotFound, match="no version 2, which label 'stable' names"):
            runtime.model("m")
        runtime.load("m", version=2, options=echo())
        assert runtime.model("m").version == 2


def test_the_routes_of_the_documentation_are_good() -> None:
    text = (Path(__file__).parents[1] / "docs" / "routing.md").read_text(encoding="utf-8")
    tables = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.S)]
    assert len(tables) >= 4
    for table in tables:
        route = model_config_from_mapping(table, where="docs/routing.md").route
        assert route is not None
        assert route_from_mapping(route_to_mapping(route)) == route


# What is refused


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_comes_back_from_its_mapping(route: Route) -> None:
    assert route_from_mapping(json.loads(json.dumps(route_to_mapping(route)))) == route


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([], "expected a table, got []"),
        ({"policy": "coin"}, "policy: expected one of 'latest', 'version', "),
        ({"policy": 3}, "policy: expected one of "),
        ({"policy": "latest", "label": "x"}, "none beside 'policy', got 'label'"),
        ({"policy": "label"}, "expected the key 'label', found none"),
        ({"policy": "label", "label": "7"}, "label: expected a letter or _ "),
        ({"policy": "version", "version": 0}, "version: expected a version from 1 on"),
        ({"policy": "version", "version": True}, "version: expected a version from 1 on"),
        ({"policy": "split", "shares": {}}, "shares: expected 1 to 64 targets"),
        ({"policy": "split", "shares": {"a": 50}}, "shares: expected 100 percent together, got 50"),
        ({"policy": "split", "shares": {"a": 99.95, "b": 0.05}}, "steps of 0.1, got 99.95"),
        ({"policy": "split", "shares": {"a": "x"}}, "shares: a: expected percent from 0 to 100"),
        ({"policy": "split", "shares": {"a": -1, "b": 101}}, "expected percent from 0 to 100"),
        ({"policy": "split", "shares": {"7": 50, 7: 50}}, "expected each target once"),
        ({"policy": "split", "shares": {"a": 100}, "salt": 3}, "salt: expected a text, got 3"),
        ({"policy": "experiment", "name": "", "arms": {}}, "name: expected a name of letters"),
        ({"policy": "experiment", "name": "e", "arms": {"a": 1}}, "arms: a: expected a table"),
        (
            {"policy": "experiment", "name": "e", "arms": {"a": {"target": 1}}},
            "arms: a: expected the key 'percent', found none",
        ),
        ({"policy": "bandit", "name": "b", "arms": {"a": 0}}, "arms: a: expected a version"),
        (
            {"policy": "bandit", "name": "b", "arms": {"a": 1}, "algorithm": "luck"},
            "algorithm: expected one of 'epsilon_greedy', 'ucb1', 'thompson', got 'luck'",
        ),
        (
            {"policy": "bandit", "name": "b", "arms": {"a": 1}, "epsilon": 2},
            "epsilon: expected 0 to 1, got 2",
        ),
    ],
)
def test_a_bad_route_is_refused_in_one_line_that_names_the_place(
    mapping: Any, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        route_from_mapping(mapping, where="m/model.toml: route")
    assert str(caught.value).startswith("m/model.toml: route: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_route_to_what_is_not_there_changes_nothing(runtime: Runtime) -> None:
    runtime.set_route("m", Version(1))
    for policy, message in (
        (Version(9), "has no version 9; loaded: 1, 2, 3"),
        (Label("canary"), "expected a label among none, got 'canary'"),
        (Split({1: 50, 8: 50}), "has no version 8"),
    ):
        with pytest.raises((InvalidInput, ModelNotFound), match=message):
            runtime.set_route("m", policy)
    assert runtime.route("m") == Route(Version(1))
    assert runtime.model("m").version == 1


def test_keys_and_ids_are_texts(runtime: Runtime) -> None:
    model = runtime.model("m")
    with pytest.raises(InvalidInput, match="route_key: expected a str or None, got 3"):
        model.infer(rows(1), route_key=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="request_id: expected a str or None, got b'x'"):
        model.submit(rows(1), request_id=b"x")  # type: ignore[arg-type]


def test_an_unknown_model_has_no_routing(runtime: Runtime) -> None:
    for call in (
        lambda: runtime.labels("other"),
        lambda: runtime.route("other"),
        lambda: runtime.set_label("other", "a", 1),
        lambda: runtime.set_route("other", Latest()),
        lambda: runtime.feedback("other", "r", 1.0),
    ):
        with pytest.raises(ModelNotFound, match="'other'"):
            call()
