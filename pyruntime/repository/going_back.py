"""Going back from the latest version to the one that it took the place of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyruntime.errors import InvalidInput, ModelNotFound
from pyruntime.routing import Latest

if TYPE_CHECKING:
    from pyruntime.repository.model_repository import ModelRepository

__all__ = ["GoneBack", "go_back"]


@dataclass(frozen=True, slots=True)
class GoneBack:
    """What answers now, what answered until then, and whether it was rolled out."""

    version: int
    left: int
    was_rolled_out: bool = False


def go_back(repository: ModelRepository, name: str) -> GoneBack:
    """End or undo the model's rollout; or else unload the latest version, as a kept one is there.

    Raises InvalidInput, ModelNotFound: there is nothing to go back to, and why.
    """
    runtime = repository.runtime
    status = runtime.rollout(name)
    if status is not None and status.rollout.status != "rolled_back":
        rollout = runtime.rollback(name)
        return GoneBack(rollout.stable, rollout.version, was_rolled_out=True)
    policy = runtime.route(name).policy
    if not isinstance(policy, Latest):
        raise InvalidInput(
            f"model '{name}': expected a rollout to undo, or the route 'latest' to go back from "
            f"the latest version, got the route '{policy.kind}': move its label, or set the route"
        )
    versions = sorted(model.version for model in runtime.models() if model.name == name)
    if len(versions) < 2:
        found = ", ".join(map(str, versions)) or "none"
        raise ModelNotFound(
            f"model '{name}': expected a version before the latest that is still loaded "
            f"(versions.keep), found: {found}"
        )
    before, latest = versions[-2:]
    repository.unload(name, latest)
    return GoneBack(before, latest)
