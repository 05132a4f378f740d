"""Labels, routes and rollouts of a Runtime's models: declared, set and served.

Every change is one step: a new entry is made, kept in its file if there is one, and then swapped
into the core whole.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyruntime.errors import InvalidInput, ModelNotFound, PyRuntimeError
from pyruntime.native_route import native_spec, targets_of
from pyruntime.rollout import Rollout
from pyruntime.route_checks import check_label
from pyruntime.routing import LATEST, Label, Latest, Route, Version
from pyruntime.serving_state import ServingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pyruntime import _core
    from pyruntime.rollout import RolloutPlan
    from pyruntime.routing import Target
    from pyruntime.serving_state import StateStore

_NOTHING_SET = ServingState()


@dataclass(frozen=True, slots=True)
class _Entry:
    """Of the model `name`. declared_*: by its model.toml."""

    name: str
    declared_labels: Mapping[str, int] = field(default_factory=dict)
    declared_route: Route = LATEST
    state: ServingState = _NOTHING_SET

    @property
    def labels(self) -> dict[str, int]:
        merged = {**self.declared_labels, **self.state.labels}
        return {label: version for label, version in merged.items() if version is not None}

    @property
    def resting_route(self) -> Route:
        """Without a rollout."""
        return self.declared_route if self.state.route is None else self.state.route

    @property
    def running(self) -> Rollout | None:
        rollout = self.state.rollout
        return rollout if rollout is not None and rollout.is_running else None

    @property
    def route(self) -> Route:
        return self.resting_route if self.running is None else self.running.step_route(self.name)

    def with_rollout(self, rollout: Rollout) -> _Entry:
        """Take up what a rollout comes to."""
        state = replace(self.state, rollout=rollout)
        before = self.state.rollout
        if rollout.status == "promoted":
            state = self._leading_to(state, rollout, rollout.version)
        elif rollout.status == "rolled_back" and before and before.status == "promoted":
            if rollout.label is None:
                state = replace(state, route=rollout.route)
            else:
                state = self._leading_to(state, rollout, rollout.stable)
        return replace(self, state=state)

    def _leading_to(self, state: ServingState, rollout: Rollout, version: int) -> ServingState:
        if rollout.label is None:
            return replace(state, route=replace(self.resting_route, policy=Version(version)))
        return replace(state, labels={**state.labels, rollout.label: version})


class RouteTable:
    """Keeps the entries. Threads: all calls from any.

    note_served: called with a model and the experiment that its route is now, or an empty name.
    """

    def __init__(self, native: _core.Registry, note_served: Callable[[str, str], None]) -> None:
        self._native = native
        self._note_served = note_served
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # under _lock
        self._store: StateStore | None = None  # under _lock

    def labels(self, name: str) -> dict[str, int]:
        """Versions by label."""
        return self._entry(name).labels

    def route(self, name: str) -> Route:
        """What is served: a rollout's step, else what was set, else what is declared."""
        return self._entry(name).route

    def rollout(self, name: str) -> Rollout | None:
        """The last one, running or not."""
        return self._entry(name).state.rollout

    def rollout_if_known(self, name: str) -> Rollout | None:
        """As rollout(), for models that may not be loaded or known."""
        with self._lock:
            return self._entries.get(name, _Entry(name)).state.rollout

    def running(self) -> dict[str, Rollout]:
        """Rollouts under way, by model."""
        with self._lock:
            entries = list(self._entries.items())
        return {name: entry.running for name, entry in entries if entry.running is not None}

    def versions_in_use(self, name: str) -> frozenset[int]:
        """Versions that labels, route and rollout need, and those to which one can roll back."""
        with self._lock:
            entry = self._entries.get(name, _Entry(name))
        labels = entry.labels
        versions = set(labels.values())
        for target in (*targets_of(entry.route), *targets_of(entry.resting_route)):
            versions.add(target if isinstance(target, int) else labels.get(target, 0))
        rollout = entry.state.rollout
        if rollout is not None and rollout.status != "rolled_back":
            versions |= {rollout.stable, rollout.version}
        return frozenset(versions - {0})

    def restore(self, store: StateStore) -> list[str]:
        """Take up what was kept, and keep what is set from now on; returns what is unreadable."""
        problems = []
        with self._lock:
            self._store = store
            for name in store.models():
                try:
                    state = store.read(name)
                    if state is not None:
                        entry = self._entries.get(name, _Entry(name))
                        self._serve(replace(entry, state=state))
                except PyRuntimeError as error:
                    problems.append(str(error))
        return problems

    def declare(self, name: str, labels: Mapping[str, int], route: Route | None) -> None:
        """Set what holds where nothing was set at run time; versions may be loaded later."""
        for label in labels:
            check_label(label)
        with self._lock:
            entry = self._entries.get(name, _Entry(name))
            if dict(labels) == entry.declared_labels and (route or LATEST) == entry.declared_route:
                return
            self._serve(
                replace(entry, declared_labels=dict(labels), declared_route=route or LATEST)
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
                if entry.running is not None and entry.running.label == label:
                    raise _is_under_way(name, entry.running)
            state = replace(entry.state, labels={**entry.state.labels, **labels})
            return replace(entry, state=state)

        self._change(name, change, [version for version in labels.values() if version is not None])

    def set_route(self, name: str, route: Route | None) -> None:
        """Set the route, all of whose versions must be loaded; None: what is declared again."""

        def change(entry: _Entry) -> _Entry:
            if entry.running is not None:
                raise _is_under_way(name, entry.running)
            return replace(entry, state=replace(entry.state, route=route))

        self._change(name, change, () if route is None else targets_of(route))

    def promote(self, name: str, version: int, plan: RolloutPlan) -> Rollout:
        """Begin a rollout; without steps it is over at once."""

        def change(entry: _Entry) -> _Entry:
            label, stable = self._promotable(entry, version)
            rollout = Rollout(version, stable, plan, label, entry.state.route)
            if not plan.canary:
                rollout = replace(rollout, status="promoted")
            return entry.with_rollout(rollout)

        return self._rollout_of(self._change(name, change, [version]))

    def check_promotable(self, name: str, version: int) -> None:
        """Raise InvalidInput if a version that is not loaded yet had better not be, for this."""
        with self._lock:
            self._promotable(self._entries.get(name, _Entry(name)), version)

    def rollback(self, name: str, reason: str) -> Rollout:
        """End a rollout under way, or undo the last one; the version before answers again."""

        def change(entry: _Entry) -> _Entry:
            rollout = entry.state.rollout
            if rollout is None or rollout.status == "rolled_back":
                raise InvalidInput(f"model '{name}': expected a rollout to roll back, found none")
            if rollout.status == "promoted":
                self._check_still_led(entry, rollout)
                self._native.find(name, rollout.stable)  # raises ModelNotFound
            return entry.with_rollout(rollout.rolled_back(reason))

        return self._rollout_of(self._change(name, change, ()))

    def move_on(self, name: str, before: Rollout, after: Rollout) -> Rollout:
        """Replace a rollout that is still what it was; returns what it is then."""

        def change(entry: _Entry) -> _Entry:
            return entry.with_rollout(after) if entry.state.rollout == before else entry

        return self._rollout_of(self._change(name, change, None))

    def _change(
        self,
        name: str,
        change: Callable[[_Entry], _Entry],
        needed: Iterable[Target] | None,
    ) -> _Entry:
        """Make a new entry, keep it, serve it. needed: what must be loaded; None: nothing."""
        with self._lock:
            if name not in self._entries:
                self._native.find(name)  # raises ModelNotFound
            before = self._entries.get(name, _Entry(name))
            entry = change(before)
            versions = [_version_of(name, target, entry.labels) for target in needed or ()]
            if needed is not None and not versions:
                self._native.find(name)  # raises ModelNotFound
            for version in versions:
                self._native.find(name, version)
            if self._store is not None and entry.state != before.state:
                self._store.write(name, entry.state)
            try:
                self._serve(entry, versions)
            except PyRuntimeError:  # unloaded in this moment
                if self._store is not None:
                    self._store.write(name, before.state)
                raise
        return entry

    def _serve(self, entry: _Entry, needed: Iterable[int] = ()) -> None:
        spec = native_spec(entry.route, entry.name)
        self._native.set_routing(entry.name, entry.labels, spec, list(needed))
        self._entries[entry.name] = entry
        self._note_served(entry.name, "" if spec is None else spec["name"])

    def _entry(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
        if entry is None:
            self._native.find(name)  # raises ModelNotFound
        return entry or _Entry(name)

    def _stable(self, entry: _Entry) -> tuple[str | None, int]:
        """Label (if one leads to it) and number of the one version that answers."""
        match entry.resting_route.policy:
            case Label(label):
                return label, _version_of(entry.name, label, entry.labels)
            case Version(version):
                return None, version
            case Latest():
                return None, self._native.find(entry.name).version
            case other:
                raise InvalidInput(
                    f"model '{entry.name}': expected a route to one version, got a policy "
                    f"'{other.kind}'; set the route to a label or a version first"
                )

    def _promotable(self, entry: _Entry, version: int) -> tuple[str | None, int]:
        """As _stable(), where another version may take over."""
        if entry.running is not None:
            raise _is_under_way(entry.name, entry.running)
        label, stable = self._stable(entry)
        advice = "let a label or a version answer before the new version is loaded"
        if version == stable:
            raise InvalidInput(
                f"model '{entry.name}': version {version} answers already; for a rollout, {advice}"
            )
        if isinstance(entry.resting_route.policy, Latest) and version > stable:
            raise InvalidInput(
                f"model '{entry.name}': the latest version answers, so that version {version} "
                f"would as soon as it is loaded; {advice}"
            )
        return label, stable

    def _check_still_led(self, entry: _Entry, rollout: Rollout) -> None:
        """Whether what the rollout set is what holds now."""
        if entry.with_rollout(rollout).state != entry.state:
            raise InvalidInput(
                f"model '{entry.name}': labels or route were set since version {rollout.version} "
                "was promoted; set them back instead"
            )

    @staticmethod
    def _rollout_of(entry: _Entry) -> Rollout:
        if entry.state.rollout is None:
            raise InvalidInput(f"model '{entry.name}': no rollout")
        return entry.state.rollout


def _is_under_way(name: str, rollout: Rollout) -> InvalidInput:
    return InvalidInput(
        f"model '{name}': version {rollout.version} is being rolled out; roll it back first"
    )


def _version_of(name: str, target: Target, labels: Mapping[str, int]) -> int:
    if isinstance(target, int):
        return target
    version = labels.get(target)
    if version is None:
        known = ", ".join(map(repr, labels)) or "none"
        raise InvalidInput(f"model '{name}': expected a label among {known}, got {target!r}")
    return version
