"""How the requests to a model are spread over its versions.

A `Route` holds one policy: `Latest`, `Version`, `Label`, `Split`, `Experiment` or `Bandit`.
Requests that name a version or a label themselves are not touched by it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, cast

from pyruntime.errors import InvalidInput

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
    "check_label",
    "native_spec",
    "route_from_mapping",
    "route_to_mapping",
    "targets_of",
]

Target: TypeAlias = int | str
"""A version by its number, or the one that a label names."""

ALGORITHMS = ("epsilon_greedy", "ucb1", "thompson")
MOST_ARMS = 64

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}")


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
        _check_version("version", self.version)


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
        shares = _mapping("shares", self.shares, "targets to percent")
        checked = {_target(f"shares: {key!r}", key): value for key, value in shares.items()}
        if len(checked) != len(shares):
            raise InvalidInput(f"shares: expected each target once, got {list(shares)}")
        for target, percent in checked.items():
            _per_mille(f"shares: {target}", percent)
        _check_whole("shares", list(checked.values()))
        _check_text("salt", self.salt)
        object.__setattr__(self, "shares", checked)


@dataclass(frozen=True, slots=True)
class Arm:
    """An alternative in an experiment: where its requests go, and how many, percent."""

    target: Target
    percent: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _target("target", self.target))
        _per_mille("percent", self.percent)


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
        _check_name("name", self.name)
        arms = _mapping("arms", self.arms, "names to arms")
        made = {}
        for name, arm in arms.items():
            _check_name("arms", name)
            made[name] = _make(Arm, arm, f"arms: {name}")
        _check_whole("arms", [arm.percent for arm in made.values()])
        _check_text("salt", self.salt)
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
        _check_name("name", self.name)
        arms = {}
        for name, target in _mapping("arms", self.arms, "names to targets").items():
            _check_name("arms", name)
            arms[name] = _target(f"arms: {name}", target)
        if self.algorithm not in ALGORITHMS:
            expected = ", ".join(map(repr, ALGORITHMS))
            raise InvalidInput(f"algorithm: expected one of {expected}, got {self.algorithm!r}")
        if not _is_number(self.epsilon) or not 0 <= self.epsilon <= 1:
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
            if not _is_number(value) or not 0 <= value < math.inf:
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
        object.__setattr__(self, "target", _target("target", self.target))
        _per_mille("percent", self.percent)
        object.__setattr__(self, "tolerance", _make(Tolerance, self.tolerance, "tolerance"))
        if not isinstance(self.outputs, Mapping):
            raise InvalidInput(f"outputs: expected tolerances by name, got {self.outputs!r}")
        outputs = {}
        for name, tolerance in self.outputs.items():
            _check_text("outputs", name)
            outputs[name] = _make(Tolerance, tolerance, f"outputs: {name}")
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
        _make(policy_class, values, where),
        None if shadow is None else _make(Shadow, shadow, f"{where}: shadow"),
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


def targets_of(route: Route) -> tuple[Target, ...]:
    """Versions and labels that a route leads to."""
    targets = [target for _, target, _ in _arms(route.policy) if target is not None]
    return (*targets, *(() if route.shadow is None else (route.shadow.target,)))


def native_spec(route: Route, model: str) -> dict[str, Any] | None:
    """Describe a route to the core; None: the latest version, and nothing to count."""
    policy = route.policy
    if isinstance(policy, Latest) and route.shadow is None:
        return None
    spec = {
        "policy": "fixed",
        "name": "",
        "salt": model,
        "epsilon": 0.0,
        "arms": _arms(policy),
        "shadow": None if route.shadow is None else _native_shadow(route.shadow),
    }
    if isinstance(policy, Split):
        spec |= {"policy": "split", "salt": policy.salt or model}
    elif isinstance(policy, Experiment):
        spec |= {"policy": "split", "name": policy.name, "salt": policy.salt or policy.name}
    elif isinstance(policy, Bandit):
        spec |= {
            "policy": policy.algorithm,
            "name": policy.name,
            "epsilon": float(policy.epsilon),
        }
    return spec


def _native_shadow(shadow: Shadow) -> dict[str, Any]:
    return {
        "target": shadow.target,
        "share": _per_mille("percent", shadow.percent),
        "tolerance": (shadow.tolerance.absolute, shadow.tolerance.relative),
        "outputs": {
            name: (tolerance.absolute, tolerance.relative)
            for name, tolerance in shadow.outputs.items()
        },
    }


def check_label(label: object) -> None:
    """Raise InvalidInput for what cannot be a label."""
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise InvalidInput(
            f"label: expected a letter or _ and then letters, digits and _ . - only, got {label!r}"
        )


def _arms(policy: Policy) -> list[tuple[str, Target | None, int]]:
    """Give (name, target, share in thousandths) of each arm; target None: the latest."""
    match policy:
        case Version(version):
            return [(str(version), version, 1000)]
        case Label(label):
            return [(label, label, 1000)]
        case Split(shares):
            return [(str(target), target, round(10 * share)) for target, share in shares.items()]
        case Experiment(_, arms):
            return [(name, arm.target, round(10 * arm.percent)) for name, arm in arms.items()]
        case Bandit(_, targets):
            return [(name, target, 0) for name, target in targets.items()]
    return [("latest", None, 1000)]


# Checks; the message names field, expected, got.


def _make(cls: type[Any], values: object, where: str) -> Any:
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{where}: expected a table, got {values!r}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            expected = ", ".join(map(repr, fields)) or "none beside 'policy'"
            raise InvalidInput(f"{where}: expected keys among {expected}, got {name!r}")
    for name, item in fields.items():
        if name not in values and item.default is item.default_factory is dataclasses.MISSING:
            raise InvalidInput(f"{where}: expected the key {name!r}, found none")
    try:
        return cls(**values)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def _mapping(what: str, value: object, expected: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MOST_ARMS:
        raise InvalidInput(f"{what}: expected 1 to {MOST_ARMS} {expected}, got {value!r}")
    return value


def _target(what: str, value: object) -> Target:
    if isinstance(value, str):
        if value.isascii() and value.isdigit():
            value = int(value)
        else:
            check_label(value)
            return value
    _check_version(what, value)
    return cast("int", value)


def _check_version(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63:
        raise InvalidInput(f"{what}: expected a version from 1 on or a label, got {value!r}")


def _check_name(what: str, value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInput(f"{what}: expected a name of letters, digits and _ . : -, got {value!r}")


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{what}: expected a text, got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _per_mille(what: str, percent: object) -> int:
    """Thousandths, of percent in steps of 0.1."""
    if _is_number(percent):
        tenths = 10 * cast("float", percent)
        if 0 <= tenths <= 1000 and abs(tenths - round(tenths)) < 1e-6:
            return round(tenths)
    raise InvalidInput(f"{what}: expected percent from 0 to 100 in steps of 0.1, got {percent!r}")


def _check_whole(what: str, percents: list[float]) -> None:
    if sum(_per_mille(what, percent) for percent in percents) != 1000:
        raise InvalidInput(f"{what}: expected 100 percent together, got {sum(percents):g}")
