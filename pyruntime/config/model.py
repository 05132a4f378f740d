"""What a repository says of one model, checked where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pyruntime.config.checks import (
    are_integers,
    check_integer,
    check_integers,
    check_items,
    check_seconds,
    check_text,
    check_texts,
    check_type,
    mismatch,
)
from pyruntime.config.options import ModelOptions
from pyruntime.route_checks import check_label
from pyruntime.routing import Route

if TYPE_CHECKING:
    from pathlib import Path

    from pyruntime.tensors import TensorSpec

__all__ = ["Memory", "ModelConfig", "Versions", "WarmUp", "WarmUpRequest"]

WARM_UP_DATA = ("zeros", "random")


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of a model are loaded; at most one of latest, all and specific is given.

    latest: so many of the highest that can be loaded. Default: 1.
    all: whether all are.
    specific: these.
    keep: how many that others took the place of stay loaded, so that going back is instant.
    """

    latest: int | None = None
    all: bool = False
    specific: tuple[int, ...] = ()
    keep: int = 1

    def __post_init__(self) -> None:
        if self.latest is not None:
            check_integer(self, "latest", least=1)
        check_type(self, "all", bool)
        check_integers(self, "specific", least=1)
        check_integer(self, "keep", least=0)
        if (self.latest is not None) + self.all + bool(self.specific) > 1:
            raise mismatch(self, "latest", "only one of latest, all and specific")

    @property
    def newest(self) -> int | None:
        """How many of the highest are loaded; None: the policy is another one."""
        return None if self.all or self.specific else self.latest or 1


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What a version runs before it is served.

    rows: of made-up requests; "auto": 1, 2, 4 and so on while a row gets cheaper; empty: none.
    data: what made-up requests hold, "zeros" or "random" or both.
    shapes: of one row of inputs, by name; a set of made-up requests for each of these mappings.
        Inputs that are not named have the model's own shape, with 1 for what may be anything.
    tensors: given requests, each of inputs by name, as nested lists.
    recorded: .npz files of inputs by name, a request each; patterns, from the model's folder.
    runs: of each request, on each instance.
    limit_s: for the sizes of "auto".
    """

    rows: Literal["auto"] | tuple[int, ...] = "auto"
    data: tuple[str, ...] = ("zeros",)
    shapes: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    tensors: tuple[Mapping[str, Any], ...] = ()
    recorded: tuple[str, ...] = ()
    runs: int = 2
    limit_s: float = 1.0

    def __post_init__(self) -> None:
        if self.rows != "auto":
            check_integers(self, "rows", least=1, also='or "auto"')
        check_texts(self, "data")
        if not self.data or not set(self.data) <= set(WARM_UP_DATA):
            raise mismatch(self, "data", " or ".join(map(repr, WARM_UP_DATA)))
        check_items(self, "shapes", Mapping)
        for shape in self.shapes:
            for dims in shape.values():
                if not are_integers(dims, least=0):
                    raise mismatch(self, "shapes", "lists of dimensions from 0 on, by input")
        check_items(self, "tensors", Mapping)
        check_texts(self, "recorded")
        check_integer(self, "runs", least=1, most=10_000)
        check_seconds(self, "limit_s")


@dataclass(frozen=True, slots=True)
class WarmUpRequest:
    """One request that a Triton configuration asks for.

    inputs: of each, by name: NumPy dtype, shape with the rows, and "zeros", "random" or a file.
    runs: how often.
    """

    name: str
    inputs: Mapping[str, tuple[str, tuple[int, ...], str | Path]]
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What a memory budget may do with a model.

    on_demand: whether it is loaded by its first request, not at the start.
    evict: whether it may be unloaded to make room, and loaded again by its next request.
    """

    on_demand: bool = False
    evict: bool = True

    def __post_init__(self) -> None:
        check_type(self, "on_demand", bool)
        check_type(self, "evict", bool)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a repository says of one model.

    options: how its versions are loaded.
    warm_up: None: a default one, whose failure does not keep a version from being served.
    requests: to warm up with, besides.
    labels: names of versions.
    route: of requests that name neither a version nor a label; None: to the latest version.
    file: of the model, in a version's folder.
    inputs, outputs: what the model must have; of a shape, -1 stands for anything.
    ignored: what was said and means nothing here, to be told to the user.
    """

    options: ModelOptions = field(default_factory=ModelOptions)
    versions: Versions = Versions()
    warm_up: WarmUp | None = None
    requests: tuple[WarmUpRequest, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    route: Route | None = None
    memory: Memory = Memory()
    file: str = "model.onnx"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_type(self, "options", ModelOptions)
        check_type(self, "versions", Versions)
        check_type(self, "memory", Memory)
        check_text(self, "file")
        if self.route is not None:
            check_type(self, "route", Route)
        check_type(self, "labels", Mapping)
        for label, version in self.labels.items():
            check_label(label)
            if not are_integers([version], least=1):
                raise mismatch(self, "labels", f"a version from 1 on for {label!r}")
