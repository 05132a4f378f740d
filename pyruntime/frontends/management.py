"""Who may change what is served, through a front end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyruntime.repository import ModelRepository

__all__ = ["Management"]


@dataclass(frozen=True, slots=True)
class Management:
    """How a front end takes management calls: to list, load and unload models.

    repository: that they act on.
    refusal: why calls that change what is served are refused; None: they are allowed.
    refuses_reading: whether the refusal is of calls that list models, too.
    is_only: whether nothing else is served, apart from metadata, statistics and health.
    token: that callers must show, as `authorization: Bearer TOKEN`, for all but health.
    """

    repository: ModelRepository
    refusal: str | None = None
    refuses_reading: bool = False
    is_only: bool = False
    token: str | None = None
