"""Routes as the core takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyruntime.route_checks import per_mille
from pyruntime.routing import Bandit, Experiment, Label, Latest, Split, Version

if TYPE_CHECKING:
    from pyruntime.routing import Policy, Route, Shadow, Target

__all__ = ["native_spec", "targets_of"]


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
        "share": per_mille("percent", shadow.percent),
        "tolerance": (shadow.tolerance.absolute, shadow.tolerance.relative),
        "outputs": {
            name: (tolerance.absolute, tolerance.relative)
            for name, tolerance in shadow.outputs.items()
        },
    }


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
