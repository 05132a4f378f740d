"""Labels and routes of a Runtime's models: what is declared, what was set, what is served."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyruntime.errors import InvalidInput, ModelNotFound
from pyruntime.routing import LATEST, Route, arms_of, check_label, native_spec, targets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyruntime import _core
    from pyruntime.routing import Target


@dataclass(frozen=True, slots=True)
class ServingState:
    """What was set of one model at run time; it takes the place of what is declared.

    labels: versions by label; None: the label was removed. route: None: never set.
    """

    labels: Mapping[str, int | None] = field(default_factory=dict)
    route: Route | None = None


NOTHING_SET = ServingState()


@dataclass(frozen=True, slots=True)
class _Entry:
    """Of one model. declared_*: by its model.toml."""

    declared_labels: Mapping[str, int] = field(default_factory=dict)
    declared_route: Route = LATEST
    state: ServingState = NOTHING_SET

    @property
    def labels(self) -> dict[str, int]:
        merged = {**self.declared_labels, **self.state.labels}
        return {label: version for label, version in merged.items() if version is not None}

    @property
    def route(self) -> Route:
        return self.declared_route if self.state.route is None else self.state.route


class RouteTable:
    """Keeps the entries, and swaps them into the core whole. Threads: all calls from any."""

    def __init__(self, native: _core.Registry) -> None:
        self._native = native
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # under _lock

    def labels(self, name: str) -> dict[str, int]:
        """Versions by label."""
        return self._entry(name).labels

    def route(self, name: str) -> Route:
        """What was set, else what is declared."""
        return self._entry(name).route

    def arms(self, name: str) -> tuple[tuple[str, Target | None], ...]:
        """Names and targets of the route's arms."""
        return arms_of(self.route(name))

    def declare(self, name: str, labels: Mapping[str, int], route: Route | None) -> None:
        """Set what holds where nothing was set at run time; versions may be loaded later."""
        for label in labels:
            check_label(label)
        with self._lock:
            entry = self._entries.get(name, _Entry())
            self._serve(
                name,
                replace(entry, declared_labels=dict(labels), declared_route=route or LATEST),
            )

    def set_labels(self, name: str, labels: Mapping[str, int | None]) -> None:
        """Move labels in one step, to versions that are loaded; None removes one."""
        for label in labels:
            check_label(label)

        def change(entry: _Entry) -> _Entry:
            for label, version in labels.items():
                if version is None and label not in entry.labels:
                    known = ", ".join(map(repr, entry.labels)) or "none"
                    raise ModelNotFound(f"model '{name}' has no label '{label}'; it has {known}")
            state = replace(entry.state, labels={**entry.state.labels, **labels})
            return replace(entry, state=state)

        self._change(name, change, [version for version in labels.values() if version is not None])

    def set_route(self, name: str, route: Route | None) -> None:
        """Set the route, all of whose versions must be loaded; None: what is declared again."""

        def change(entry: _Entry) -> _Entry:
            return replace(entry, state=replace(entry.state, route=route))

        self._change(name, change, () if route is None else targets_of(route))

    def _change(
        self,
        name: str,
        change: Callable[[_Entry], _Entry],
        needed: tuple[Target, ...] | list[int],
    ) -> None:
        with self._lock:
            entry = change(self._entries.get(name, _Entry()))
            versions = [_version_of(name, target, entry.labels) for target in needed]
            if not versions:
                self._native.find(name)  # raises ModelNotFound
            self._serve(name, entry, versions)

    def _serve(self, name: str, entry: _Entry, needed: list[int] | None = None) -> None:
        self._native.set_routing(name, entry.labels, native_spec(entry.route, name), needed or [])
        self._entries[name] = entry

    def _entry(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
        if entry is None:
            self._native.find(name)  # raises ModelNotFound
        return entry or _Entry()


def _version_of(name: str, target: Target, labels: Mapping[str, int]) -> int:
    if isinstance(target, int):
        return target
    version = labels.get(target)
    if version is None:
        known = ", ".join(map(repr, labels)) or "none"
        raise InvalidInput(f"model '{name}': expected a label among {known}, got {target!r}")
    return version
