"""The calls that label, route, promote and reward: the services of proto/management.proto."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from pyruntime.errors import InvalidInput, ModelNotFound
from pyruntime.frontends import protocol
from pyruntime.rollout import Gates, RolloutPlan
from pyruntime.routing import route_from_mapping, route_to_mapping

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pyruntime.repository import ModelRepository
    from pyruntime.rollout_driver import RolloutStatus
    from pyruntime.runtime import Runtime
    from pyruntime.telemetry import ArmStats, ShadowStats

__all__ = ["RoutingCalls", "reward"]

_GATES = ("max_p99", "max_error", "max_diff", "min_requests", "min_compared")


def reward(runtime: Runtime, request: Any) -> Any:
    """Answer Reward."""
    runtime.feedback(request.model, request.request_id, request.reward)
    return _RewardResponse()


class RoutingCalls:
    """What the calls of the service Management do. Each raises the runtime's errors."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository
        self._runtime = repository.runtime

    def get_routing(self, request: Any) -> Any:
        """Answer GetRouting."""
        return self._routing(request.model)

    def set_labels(self, request: Any) -> Any:
        """Answer SetLabels."""
        if not request.labels:
            raise InvalidInput("labels: expected versions by label, got none")
        labels = {label: version or None for label, version in request.labels.items()}
        with self._loaded(request.model):
            self._runtime.set_labels(request.model, labels)
        return self._routing(request.model)

    def set_route(self, request: Any) -> Any:
        """Answer SetRoute."""
        route = None
        if request.route:
            try:
                mapping = json.loads(request.route)
            except ValueError as error:
                raise InvalidInput(f"route: expected JSON, got an error: {error}") from None
            route = route_from_mapping(mapping)
        with self._loaded(request.model):
            self._runtime.set_route(request.model, route)
        return self._routing(request.model)

    def promote(self, request: Any) -> Any:
        """Answer Promote."""
        name, version = request.model, request.version
        gates = {gate: getattr(request, gate) for gate in _GATES if request.HasField(gate)}
        copied = {"copied": request.copied} if request.HasField("copied") else {}
        plan = RolloutPlan(tuple(request.canary), request.every_s, Gates(**gates), **copied)
        with self._loaded(name):
            try:
                self._runtime.model(name, version)
            except ModelNotFound:
                self._runtime.check_promotable(name, version)
                self._repository.load(name, version)
            self._runtime.promote(name, version, plan)
        return self._rollout(name)

    def get_rollout(self, request: Any) -> Any:
        """Answer GetRollout."""
        return self._rollout(request.model)

    def rollback(self, request: Any) -> Any:
        """Answer Rollback."""
        with self._loaded(request.model):
            now = self._repository.rollback(request.model)
        if now.was_rolled_out:
            return self._rollout(request.model)
        return _RolloutStatus(
            model=request.model,
            version=now.left,
            stable=now.version,
            status="rolled_back",
            reason="asked for",
        )

    def _loaded(self, name: str) -> AbstractContextManager[float | None]:
        """Keep a model loaded; one that waits for a request is brought in."""
        return self._repository.bring_in(name) or contextlib.nullcontext()

    def _routing(self, name: str) -> Any:
        stats = self._runtime.route_stats(name)
        return _Routing(
            model=name,
            labels=self._runtime.labels(name),
            route=json.dumps(route_to_mapping(self._runtime.route(name))),
            arms=[_arm(arm) for arm in stats.arms],
            shadow=None if stats.shadow is None else _shadow(stats.shadow),
            fallbacks=stats.fallbacks,
        )

    def _rollout(self, name: str) -> Any:
        status = self._runtime.rollout(name)
        if status is None:
            raise ModelNotFound(f"model '{name}': there was no rollout")
        return _rollout_message(name, status)


def _arm(arm: ArmStats) -> Any:
    counts = {
        field: getattr(arm, field)
        for field in (
            "name",
            "assigned",
            "completed",
            "failed",
            "cancelled",
            "refused",
            "rewards",
            "reward_sum",
        )
    }
    times = {field: getattr(arm.total, field) for field in ("mean_us", "p50_us", "p99_us")}
    return _ArmStatistics(target="" if arm.target is None else str(arm.target), **counts, **times)


def _shadow(stats: ShadowStats) -> Any:
    message = _ShadowStatistics(p99_us=stats.total.p99_us)
    for field in (
        "sampled",
        "dropped",
        "skipped",
        "failed",
        "matched",
        "mismatched",
        "last_problem",
    ):
        setattr(message, field, getattr(stats, field))
    for output in stats.outputs:
        message.outputs.add(
            name=output.name,
            mismatched=output.mismatched,
            max_absolute=output.max_absolute,
            max_relative=output.max_relative,
        )
    return message


def _rollout_message(name: str, status: RolloutStatus) -> Any:
    rollout = status.rollout
    return _RolloutStatus(
        model=name,
        version=rollout.version,
        stable=rollout.stable,
        status=rollout.status,
        step=rollout.step,
        percent=rollout.percent,
        reason=rollout.reason,
        waits_for=status.waits_for if rollout.is_running else "",
        canary=rollout.plan.canary,
    )


_Routing = protocol.message_class("Routing", "pyruntime")
_ArmStatistics = protocol.message_class("ArmStatistics", "pyruntime")
_ShadowStatistics = protocol.message_class("ShadowStatistics", "pyruntime")
_RolloutStatus = protocol.message_class("RolloutStatus", "pyruntime")
_RewardResponse = protocol.message_class("RewardResponse", "pyruntime")
