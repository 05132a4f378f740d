"""The calls that are so hot that a general binding would show in their time."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, final

import numpy as np
from typing_extensions import disjoint_base

from pyruntime.routing import Assignment

__all__ = ["CompletionQueue", "DeviceArray", "Handle", "Pending"]

@final
class DeviceArray:
    """An output in the memory of a GPU, row-major and contiguous."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...
    def numpy(self) -> np.ndarray[Any, Any]: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

@disjoint_base
class Handle:
    """Calls a model: one version of it, that of a label, or whichever the route chooses."""

    name: str
    def __init__(
        self, registry: object, model: object, *, is_routed: bool, label: str = ""
    ) -> None: ...
    def infer_routed(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: Literal["high", "normal", "low"] | None = None,
        route_key: str | None = None,
        request_id: str | None = None,
        outputs_on: Literal["host", "device"] = "host",
    ) -> tuple[dict[str, np.ndarray[Any, Any]], Assignment]: ...
    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: Literal["high", "normal", "low"] | None = None,
        route_key: str | None = None,
        request_id: str | None = None,
        outputs_on: Literal["host", "device"] = "host",
    ) -> dict[str, np.ndarray[Any, Any]]: ...
    def _start(
        self,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None,
        timeout_s: float | None,
        priority: Literal["high", "normal", "low"] | None,
        route_key: str | None,
        request_id: str | None,
        outputs_on: Literal["host", "device"],
        future: object,
        queue: CompletionQueue,
    ) -> Pending: ...
    def _brought_in(
        self, error: Exception, timeout_s: float | None
    ) -> AbstractContextManager[float | None]: ...
    def _warm_up(self, inputs: Mapping[str, Any], runs: int) -> None: ...
    def _rebind(self, model: object) -> None: ...
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
