"""Gated rollouts: a version gets more of a model's requests while its gates hold.

Here is what a rollout is and when it moves, without threads, files or a Runtime: `advance()` takes
what was observed and gives the rollout's next state. pyruntime.rollout_driver drives it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pyruntime.binomial import tail_of_binomial
from pyruntime.errors import InvalidInput
from pyruntime.routing import (
    Route,
    Shadow,
    Split,
    Tolerance,
    route_from_mapping,
    route_to_mapping,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyruntime.telemetry import ArmStats, RouteStats

__all__ = ["Gates", "Observation", "Rollout", "RolloutMachine", "RolloutPlan"]

PATIENCE_S = 60.0
"""How long a version of a rollout may be away, after a restart for instance."""

CHANCE = 1e-3
"""A tail as heavy as observed counts as slower when chance gives it less often than this."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What must hold, against the stable version in the same time, for a rollout to go on.

    max_p99: its 99th percentile, as a multiple of the stable version's.
    max_error: by how much its share of failed requests may be higher, 0 to 1.
    max_diff: how far elements of its answers to copies of the stable version's requests may be
        off: max_diff + max_diff * |expected|.
    min_requests: of both versions in each step, before it may end. min_compared: answers, where
        max_diff is given.
    """

    max_p99: float | None = None
    max_error: float | None = None
    max_diff: float | None = None
    min_requests: int = 100
    min_compared: int = 20

    def __post_init__(self) -> None:
        _check_number("max_p99", self.max_p99, 1.0, 1e6)
        _check_number("max_error", self.max_error, 0.0, 1.0)
        _check_number("max_diff", self.max_diff, 0.0, 1e30)
        for name in ("min_requests", "min_compared"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
                raise InvalidInput(f"{name}: expected a whole number from 0 on, got {value!r}")


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a version comes to answer everything.

    canary: its shares on the way, percent in steps of 0.1, rising; empty: all at once.
    every_s: how long each step lasts at least, seconds.
    copied: of the stable version's requests, percent that are compared; with gates.max_diff.
    """

    canary: tuple[float, ...] = (1.0, 10.0, 50.0)
    every_s: float = 300.0
    gates: Gates = field(default_factory=Gates)
    copied: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.canary, tuple | list):
            raise InvalidInput(f"canary: expected shares in percent, got {self.canary!r}")
        canary = tuple(self.canary)
        for share in canary:
            Split({1: 100.0 - share, 2: share} if _is_number(share) else {1: share})
        if list(canary) != sorted(set(canary)) or not all(0 < share < 100 for share in canary):
            raise InvalidInput(f"canary: expected rising shares between 0 and 100, got {canary}")
        _check_number("every_s", self.every_s, 0.0, 1e9)
        if not isinstance(self.gates, Gates):
            raise InvalidInput(f"gates: expected Gates, got {self.gates!r}")
        Shadow(1, self.copied)  # checks it
        object.__setattr__(self, "canary", canary)


Status = Literal["running", "promoted", "rolled_back"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout of a version, and how far it is.

    stable: the version that answered before.
    label: that names the stable version and moves in the end; None: the route itself moves.
    route: what was set at run time before, and is again when it is rolled back; None: nothing.
    step: of the plan's. reason: why it was rolled back.
    """

    version: int
    stable: int
    plan: RolloutPlan
    label: str | None = None
    route: Route | None = None
    status: Status = "running"
    step: int = 0
    reason: str = ""

    @property
    def is_running(self) -> bool:
        """Whether requests are split between the two versions."""
        return self.status == "running"

    @property
    def percent(self) -> float:
        """Share of requests that the version gets."""
        if self.is_running:
            return self._share
        return 100.0 if self.status == "promoted" else 0.0

    @property
    def _share(self) -> float:
        return self.plan.canary[self.step]

    def step_route(self, model: str) -> Route:
        """Give the route of this step. The salt is one for all steps: who was moved, stays."""
        rest = round(100.0 - self._share, 1)
        split = Split({self.stable: rest, self.version: self._share}, salt=model)
        if (diff := self.plan.gates.max_diff) is None:
            return Route(split)
        return Route(split, Shadow(self.version, self.plan.copied, Tolerance(diff, diff)))

    def next_step(self) -> Rollout:
        """Move up; behind the last step it is promoted."""
        if self.step + 1 < len(self.plan.canary):
            return replace(self, step=self.step + 1)
        return replace(self, status="promoted")

    def rolled_back(self, reason: str) -> Rollout:
        """Give up."""
        return replace(self, status="rolled_back", reason=reason)

    def to_mapping(self) -> dict[str, Any]:
        """Give what from_mapping() makes the same of; JSON can hold it."""
        values = asdict(replace(self, route=None))
        values["route"] = None if self.route is None else route_to_mapping(self.route)
        return values

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Rollout:
        """Read what to_mapping() gave. Raises InvalidInput."""
        try:
            values = dict(mapping)
            plan = dict(values.pop("plan"))
            gates = Gates(**plan.pop("gates"))
            route = values.pop("route")
            made = cls(
                **values,
                plan=RolloutPlan(**{**plan, "canary": tuple(plan["canary"])}, gates=gates),
                route=None if route is None else route_from_mapping(route),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"rollout: {error}") from None
        if made.status not in ("running", "promoted", "rolled_back"):
            raise InvalidInput(f"rollout: status: got {made.status!r}")
        if made.is_running and not 0 <= made.step < len(made.plan.canary):
            raise InvalidInput(f"rollout: step: got {made.step} of {len(made.plan.canary)}")
        return made


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen in a step. missing: versions of the rollout that are not loaded."""

    stats: RouteStats
    missing: tuple[int, ...] = ()


class RolloutMachine:
    """Takes one rollout from step to step. clock: seconds, monotonic."""

    def __init__(self, rollout: Rollout, clock: Callable[[], float]) -> None:
        self.rollout = rollout
        self.waits_for = "the first observation"
        self._clock = clock
        self._step_began = clock()
        self._missing_since: float | None = None

    def advance(self, observation: Observation) -> Rollout:
        """Judge; returns what the rollout is then, which is not its state before enter()."""
        now = self._clock()
        rollout = self.rollout
        if not rollout.is_running:
            return rollout
        if observation.missing:
            return self._wait_for_missing(observation.missing, now)
        self._missing_since = None
        arms = observation.stats.arms
        if [arm.target for arm in arms] != [rollout.stable, rollout.version]:
            return rollout  # of the step before, or after
        stable, canary = arms
        gates = rollout.plan.gates
        if reason := _broken_gate(gates, observation.stats, stable, canary):
            share = f"{rollout.percent:g} %"
            return rollout.rolled_back(f"at {share} of the requests: {reason}")
        self.waits_for = self._not_yet(observation.stats, stable, canary, now)
        return rollout if self.waits_for else rollout.next_step()

    def enter(self, rollout: Rollout) -> None:
        """Go on from here; a step begins."""
        self.rollout = rollout
        self._step_began = self._clock()

    def _wait_for_missing(self, missing: tuple[int, ...], now: float) -> Rollout:
        if self._missing_since is None:
            self._missing_since = now
        names = " and ".join(f"version {version}" for version in missing)
        self.waits_for = f"{names} to be loaded"
        self._step_began = now  # the step is begun anew once they are there
        if now - self._missing_since < PATIENCE_S:
            return self.rollout
        return self.rollout.rolled_back(f"{names} was not loaded for {PATIENCE_S:g} s")

    def _not_yet(self, stats: RouteStats, stable: ArmStats, canary: ArmStats, now: float) -> str:
        """Say what is missing for this step to end; empty: nothing."""
        plan = self.rollout.plan
        left_s = plan.every_s - (now - self._step_began)
        if left_s > 0:
            return f"{math.ceil(left_s)} s to pass"
        for arm in (canary, stable):
            if (seen := arm.completed + arm.failed) < plan.gates.min_requests:
                return f"requests to version {arm.target}: {seen} of {plan.gates.min_requests}"
        if plan.gates.max_diff is not None:
            compared = stats.shadow.matched if stats.shadow is not None else 0
            if compared < plan.gates.min_compared:
                return f"answers to compare: {compared} of {plan.gates.min_compared}"
        return ""


def _broken_gate(gates: Gates, stats: RouteStats, stable: ArmStats, canary: ArmStats) -> str | None:
    return (
        (_differs(stats) if gates.max_diff is not None and stats.shadow is not None else None)
        or _fails_more(gates, stable, canary)
        or _is_slower(gates, stable, canary)
    )


def _differs(stats: RouteStats) -> str | None:
    shadow = stats.shadow
    if shadow is None or not shadow.mismatched + shadow.failed:
        return None
    compared = shadow.matched + shadow.mismatched + shadow.failed
    return (
        f"{shadow.mismatched + shadow.failed} of {compared} answers differ from the stable "
        f"version's: {shadow.last_problem}"
    )


def _fails_more(gates: Gates, stable: ArmStats, canary: ArmStats) -> str | None:
    if gates.max_error is None or not canary.failed:
        return None
    # Until enough are seen, those to come are taken for good: what is then too much, stays so.
    seen = canary.completed + canary.failed
    share = canary.failed / max(seen, gates.min_requests)
    limit = stable.failed / max(stable.completed + stable.failed, 1) + gates.max_error
    if share <= limit:
        return None
    return (
        f"{canary.failed} of {seen} requests failed, the limit is {100 * limit:.3g} % "
        f"(the stable version's {100 * (limit - gates.max_error):.3g} % "
        f"and {100 * gates.max_error:.3g} %)"
    )


def _is_slower(gates: Gates, stable: ArmStats, canary: ArmStats) -> str | None:
    least = max(gates.min_requests, 1)
    if gates.max_p99 is None or min(stable.total.count, canary.total.count) < least:
        return None
    limit_us = gates.max_p99 * stable.total.p99_us
    slow = sum(count for us, count in canary.buckets if us >= limit_us)
    # Of requests within a p99 of the limit, one in a hundred is slower.
    if slow == 0 or tail_of_binomial(slow, canary.total.count, 0.01) >= CHANCE:
        return None
    return (
        f"p99 of {canary.total.p99_us:.0f} us, {canary.total.p99_us / stable.total.p99_us:.2f} "
        f"times the stable version's {stable.total.p99_us:.0f} us, the limit is "
        f"{gates.max_p99:g} times"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if value is None:
        return
    if not _is_number(value) or not least <= cast("float", value) <= most:
        raise InvalidInput(f"{name}: expected a number from {least:g} to {most:g}, got {value!r}")
