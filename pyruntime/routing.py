"""How the requests to a model are spread over its versions.

A `Route` holds one policy: `Latest`, `Version`, `Label`, `Split`, `Experiment` or `Bandit`.
Requests that name a version or a label themselves are not touched by it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from pyruntime.errors import InvalidInput
from pyruntime.route_checks import (
    Target,
    check_label,
    check_name,
    check_text,
    check_version,
    check_whole,
    is_number,
    make_from,
    mapping_of_arms,
    per_mille,
    target_of,
)

__all__ = [
    "LATEST",
    "Arm",
    "Assignment",
    "Bandit",
    "Experiment",
    "Label",
    "Latest",
    "Policy",
    "Route",
    "Shadow",
    "Split",
    "Target",
    "Tolerance",
    "Version",
    "route_from_mapping",
    "route_to_mapping",
]

ALGORITHMS = ("epsilon_greedy", "ucb1", "thompson")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answered a request.

    experiment, arm: of an Experiment or a Bandit; empty where neither chose.
    """

    version: int
    experiment: str
    arm: str


@dataclass(frozen=True, slots=True)
class Latest:
    """The highest loaded version."""

    kind: ClassVar[str] = "latest"


@dataclass(frozen=True, slots=True)
class Version:
    """One version, by its number."""

    kind: ClassVar[str] = "version"
    version: int

    def __post_init__(self) -> None:
        check_version("version", self.version)


@dataclass(frozen=True, slots=True)
class Label:
    """Whichever version a label names."""

    kind: ClassVar[str] = "label"
    label: str

    def __post_init__(self) -> None:
        check_label(self.label)


@dataclass(frozen=True, slots=True)
class Split:
    """Versions by fixed shares: a canary beside the stable version.

    shares: percent by target, in steps of 0.1, 100 together. The first answers where another is
        not loaded.
    salt: of the hash that places keys; empty: the model's name. Equal salts place a key equally.

    Requests with one `route_key` go to one version; those without are spread at random.
    """

    kind: ClassVar[str] = "split"
    shares: Mapping[Target, float]
    salt: str = ""

    def __post_init__(self) -> None:
        shares = mapping_of_arms("shares", self.shares, "targets to percent")
        checked = {target_of(f"shares: {key!r}", key): value for key, value in shares.items()}
        if len(checked) != len(shares):
            raise InvalidInput(f"shares: expected each target once, got {list(shares)}")
        for target, percent in checked.items():
            per_mille(f"shares: {target}", percent)
        check_whole("shares", list(checked.values()))
        check_text("salt", self.salt)
        object.__setattr__(self, "shares", checked)


@dataclass(frozen=True, slots=True)
class Arm:
    """An alternative in an experiment: where its requests go, and how many, percent."""

    target: Target
    percent: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of("target", self.target))
        per_mille("percent", self.percent)


@dataclass(frozen=True, slots=True)
class Experiment:
    """An A/B test: named arms by fixed shares, counted each, and named in replies.

    name: of the experiment; also the salt of the hash that places keys, so that assignments to
        different experiments do not depend on each other.
    arms: by name, 100 percent together. The first answers where another's version is not loaded.
    """

    kind: ClassVar[str] = "experiment"
    name: str
    arms: Mapping[str, Arm]
    salt: str = ""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        arms = mapping_of_arms("arms", self.arms, "names to arms")
        made = {}
        for name, arm in arms.items():
            check_name("arms", name)
            made[name] = make_from(Arm, arm, f"arms: {name}")
        check_whole("arms", [arm.percent for arm in made.values()])
        check_text("salt", self.salt)
        object.__setattr__(self, "arms", made)


@dataclass(frozen=True, slots=True)
class Bandit:
    """An experiment that learns from rewards which arm is best, and prefers it.

    name: of the experiment. arms: targets by name.
    algorithm: "thompson", "ucb1" or "epsilon_greedy". epsilon: of the last, the share of requests,
        0 to 1, that explore.

    Rewards, 0 to 1, come by Runtime.feedback(). A `route_key` means nothing here.
    """

    kind: ClassVar[str] = "bandit"
    name: str
    arms: Mapping[str, Target]
    algorithm: Literal["thompson", "ucb1", "epsilon_greedy"] = "thompson"
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_name("name", self.name)
        arms = {}
        for name, target in mapping_of_arms("arms", self.arms, "names to targets").items():
            check_name("arms", name)
            arms[name] = target_of(f"arms: {name}", target)
        if self.algorithm not in ALGORITHMS:
            expected = ", ".join(map(repr, ALGORITHMS))
            raise InvalidInput(f"algorithm: expected one of {expected}, got {self.algorithm!r}")
        if not is_number(self.epsilon) or not 0 <= self.epsilon <= 1:
            raise InvalidInput(f"epsilon: expected 0 to 1, got {self.epsilon!r}")
        object.__setattr__(self, "arms", arms)


_LATEST_VERSION = Latest()

Policy: TypeAlias = Latest | Version | Label | Split | Experiment | Bandit

_POLICIES: dict[str, type[Any]] = {
    policy.kind: policy for policy in (Latest, Version, Label, Split, Experiment, Bandit)
}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an element of an answer may be off: absolute + relative * |expected|."""

    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < math.inf:
                raise InvalidInput(f"{name}: expected a number from 0 on, got {value!r}")


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets copies of the route's requests; its answers are compared, never returned.

    percent: of the requests, in steps of 0.1.
    tolerance: of numbers in the answers. outputs: another one, by output.

    Copies that cannot be run with processor time to spare are dropped.
    """

    target: Target
    percent: float = 100.0
    tolerance: Tolerance = field(default_factory=Tolerance)
    outputs: Mapping[str, Tolerance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of("target", self.target))
        per_mille("percent", self.percent)
        object.__setattr__(self, "tolerance", make_from(Tolerance, self.tolerance, "tolerance"))
        if not isinstance(self.outputs, Mapping):
            raise InvalidInput(f"outputs: expected tolerances by name, got {self.outputs!r}")
        outputs = {}
        for name, tolerance in self.outputs.items():
            check_text("outputs", name)
            outputs[name] = make_from(Tolerance, tolerance, f"outputs: {name}")
        object.__setattr__(self, "outputs", outputs)


@dataclass(frozen=True, slots=True)
class Route:
    """What happens to requests that name neither a version nor a label.

    shadow: gets copies of them.
    """

    policy: Policy = _LATEST_VERSION
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        if self.shadow is not None and not isinstance(self.shadow, Shadow):
            raise InvalidInput(f"shadow: expected a Shadow, got {self.shadow!r}")
        if not isinstance(self.policy, tuple(_POLICIES.values())):
            expected = ", ".join(policy.__name__ for policy in _POLICIES.values())
            raise InvalidInput(f"policy: expected one of {expected}, got {self.policy!r}")


LATEST = Route()
"""What holds where nothing is set."""


def route_from_mapping(mapping: Mapping[str, Any], *, where: str = "route") -> Route:
    """Build a route from nested mappings, such as the `[route]` table of a model.toml.

    `policy` is one of latest, version, label, split, experiment and bandit; the other keys are
    the fields of the class of that name; `shadow` is a table of the fields of Shadow.
    where: named in errors. Raises InvalidInput.
    """
    if not isinstance(mapping, Mapping):
        raise InvalidInput(f"{where}: expected a table, got {mapping!r}")
    values = dict(mapping)
    kind = values.pop("policy", "latest")
    policy_class = _POLICIES.get(kind) if isinstance(kind, str) else None
    if policy_class is None:
        expected = ", ".join(map(repr, _POLICIES))
        raise InvalidInput(f"{where}: policy: expected one of {expected}, got {kind!r}")
    shadow = values.pop("shadow", None)
    return Route(
        make_from(policy_class, values, where),
        None if shadow is None else make_from(Shadow, shadow, f"{where}: shadow"),
    )


def route_to_mapping(route: Route) -> dict[str, Any]:
    """Give what route_from_mapping() makes the same route of; JSON can hold it."""
    values: dict[str, Any] = {"policy": route.policy.kind}
    for item in dataclasses.fields(route.policy):
        value = getattr(route.policy, item.name)
        if item.name == "shares":
            value = {str(target): percent for target, percent in value.items()}
        elif isinstance(value, Mapping):
            value = {
                name: dataclasses.asdict(arm) if isinstance(arm, Arm) else arm
                for name, arm in value.items()
            }
        values[item.name] = value
    if route.shadow is not None:
        values["shadow"] = dataclasses.asdict(route.shadow)
    return values
