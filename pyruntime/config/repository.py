"""How a repository is served, checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pyruntime.config.checks import (
    check_integer,
    check_seconds,
    check_texts,
    check_type,
    mismatch,
)
from pyruntime.config.options import ModelOptions

__all__ = ["MODES", "RepositoryOptions"]

MODES = ("none", "poll", "explicit")


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """How a repository is served.

    mode: "none": what is there at the start; "poll": what changes, too; "explicit": what is asked
        for.
    load: models that are loaded at the start in mode "explicit"; "*": all.
    defaults: of models without a configuration of their own.
    poll_every_s: seconds between looks at the folders; None: file events where the file system
        has them.
    on_demand: whether all models wait for their first request.
    memory_budget_bytes: of all loaded versions; None: no limit.
    load_threads: versions that load at once.
    gentle: whether loads give way to requests.
    """

    mode: Literal["none", "poll", "explicit"] = "none"
    load: tuple[str, ...] = ()
    defaults: ModelOptions = field(default_factory=ModelOptions)
    poll_every_s: float | None = None
    on_demand: bool = False
    memory_budget_bytes: int | None = None
    load_threads: int = 1
    gentle: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise mismatch(self, "mode", "one of " + ", ".join(map(repr, MODES)))
        check_texts(self, "load")
        if self.load and self.mode != "explicit":
            raise mismatch(self, "load", f'nothing in mode "{self.mode}"')
        check_type(self, "defaults", ModelOptions)
        if self.poll_every_s is not None:
            check_seconds(self, "poll_every_s")
            if self.poll_every_s < 0.01:
                raise mismatch(self, "poll_every_s", "at least 0.01 s")
        check_type(self, "on_demand", bool)
        check_type(self, "gentle", bool)
        if self.memory_budget_bytes is not None:
            check_integer(self, "memory_budget_bytes", least=1)
        check_integer(self, "load_threads", least=1, most=64)
