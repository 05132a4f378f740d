"""Holds what a configuration says of a model's tensors against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyruntime.config.model import ModelConfig
    from pyruntime.model import Model
    from pyruntime.tensors import TensorSpec

__all__ = ["check_claims"]


def check_claims(model: Model, config: ModelConfig) -> None:
    """Raise InvalidInput unless the model has the inputs and outputs that its configuration names.

    A configuration may name fewer outputs than there are, and be stricter in dimensions.
    """
    _check("input", config.inputs, model.inputs)
    _check("output", config.outputs, model.outputs)
    claimed = {spec.name for spec in config.inputs}
    for spec in model.inputs if claimed else ():
        if spec.name not in claimed:
            raise InvalidInput(
                f"configuration: expected input '{spec.name}', which the model has, got none"
            )


def _check(kind: str, claims: Sequence[TensorSpec], specs: Sequence[TensorSpec]) -> None:
    known = {spec.name: spec for spec in specs}
    for claim in claims:
        spec = known.get(claim.name)
        where = f"configuration: {kind} '{claim.name}'"
        if spec is None:
            raise InvalidInput(f"{where}: expected one of {', '.join(map(repr, known))}")
        if claim.dtype != spec.dtype or not _agree(claim.shape, spec):
            raise InvalidInput(f"{where}: expected {spec}, as the model has it, got {claim}")


def _agree(claim: Sequence[int], spec: TensorSpec) -> bool:
    if not spec.shape and claim:  # a scalar, or any rank
        return True
    return len(claim) == len(spec.shape) and all(
        mine < 0 or theirs < 0 or mine == theirs
        for mine, theirs in zip(claim, spec.shape, strict=True)
    )
