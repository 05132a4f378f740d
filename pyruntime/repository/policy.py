"""Which versions of a model are to be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyruntime.config.model import ModelConfig

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Versions to try, highest first, so that the latest one answers from the first moment.

    fixed: are loaded in any case.
    newest: how many of `numbers` that can be loaded are; None: all.
    """

    numbers: tuple[int, ...]
    fixed: frozenset[int]
    newest: int | None

    def wants(self, number: int, ready: Iterable[int]) -> bool:
        """Whether `number` is to be tried, when `ready` are loaded."""
        if self.newest is None or number in self.fixed:
            return True
        return sum(1 for other in ready if other > number) < self.newest


def plan(
    config: ModelConfig,
    found: Iterable[int],
    *,
    asked: Iterable[int] = (),
    refused: Iterable[int] = (),
) -> Plan:
    """Apply the policy to what is found.

    asked: versions that somebody asked for, or that labels and routes name. refused: unloaded by
    somebody, and not to be loaded again.
    """
    numbers = set(found) - set(refused)
    fixed = set(asked) & numbers
    policy = config.versions
    if policy.specific:
        numbers = fixed | (numbers & set(policy.specific))
    descending = tuple(sorted(numbers, reverse=True))
    return Plan(descending, frozenset(fixed), policy.newest)
