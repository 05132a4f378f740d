"""The calls that are so hot that a general binding would show in their time."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
from typing_extensions import disjoint_base

__all__ = ["CompletionQueue", "Handle", "Pending"]

@disjoint_base
class Handle:
    """Calls a model: one version of it, or the one that is latest at each call."""

    name: str
    def __init__(self, registry: object, model: object, *, follows_latest: bool) -> None: ...
    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: Literal["high", "normal", "low"] = "normal",
    ) -> dict[str, np.ndarray[Any, Any]]: ...
    def _start(
        self,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None,
        timeout_s: float | None,
        priority: Literal["high", "normal", "low"],
        future: object,
        queue: CompletionQueue,
    ) -> Pending: ...
    def _warm_up(self, inputs: Mapping[str, Any], runs: int) -> None: ...
    def _model_capsule(self) -> object: ...

@final
class Pending:
    """A submitted request and all that must live until it is done."""

    def cancel(self) -> bool: ...

@final
class CompletionQueue:
    """Finished requests on their way to one thread or event loop."""

    @property
    def in_flight(self) -> int: ...
    @property
    def is_of_loop(self) -> bool: ...
    @property
    def is_abandoned(self) -> bool: ...
    @property
    def capsule(self) -> object: ...
    def __init__(self, is_of_loop: bool = False) -> None: ...
    def fileno(self) -> int: ...
    def wake(self) -> None: ...
    def drain(self) -> int: ...
    def abandon(self) -> None: ...
