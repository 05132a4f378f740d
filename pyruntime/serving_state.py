"""What was decided at run time about a model, and the file that outlives the server.

FOLDER/<model>/.serving.json, where FOLDER is the repository or, if that is read-only, one of the
server's own. A file holds all there is to know of a model, and is replaced whole, so that whatever
ends a process leaves what was before or what came after. What experiments count lies beside it, in
.traffic.json: it changes all the while, and losing a little of it does no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pyruntime.errors import InvalidInput, Unavailable
from pyruntime.rollout import Rollout
from pyruntime.route_checks import check_label
from pyruntime.routing import Route, route_from_mapping, route_to_mapping
from pyruntime.traffic_state import TrafficState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ServingState", "StateStore"]

STATE_FILE = ".serving.json"
TRAFFIC_FILE = ".traffic.json"

_FORMAT = 1

_State = TypeVar("_State")


@dataclass(frozen=True, slots=True)
class ServingState:
    """What was set of one model at run time; it takes the place of what is declared.

    labels: versions by label; None: the label was removed. route: None: never set.
    rollout: the last one.
    """

    labels: Mapping[str, int | None] = field(default_factory=dict)
    route: Route | None = None
    rollout: Rollout | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Give what from_mapping() makes the same of; JSON can hold it."""
        return {
            "format": _FORMAT,
            "labels": dict(self.labels),
            "route": None if self.route is None else route_to_mapping(self.route),
            "rollout": None if self.rollout is None else self.rollout.to_mapping(),
        }

    @classmethod
    def from_mapping(cls, mapping: object) -> ServingState:
        """Read what to_mapping() gave. Raises InvalidInput."""
        if not isinstance(mapping, Mapping) or mapping.get("format") != _FORMAT:
            raise InvalidInput(f"expected a table with format {_FORMAT}")
        labels, route, rollout = (mapping.get(key) for key in ("labels", "route", "rollout"))
        if not isinstance(labels, Mapping):
            raise InvalidInput(f"labels: expected versions by label, got {labels!r}")
        for label, version in labels.items():
            check_label(label)
            if version is not None and (not isinstance(version, int) or version < 1):
                raise InvalidInput(f"labels: {label}: expected a version, got {version!r}")
        return cls(
            labels,
            None if route is None else route_from_mapping(route),
            None if rollout is None else Rollout.from_mapping(rollout),
        )


class StateStore:
    """Reads and writes the files.

    folder: of a folder for each model. makes_folders: whether it makes those; else they must be
    there, as in a repository.
    """

    def __init__(self, folder: Path, *, makes_folders: bool = False) -> None:
        self._folder = folder
        self._makes_folders = makes_folders

    def models(self) -> list[str]:
        """Those with a file."""
        return self._models_with(STATE_FILE)

    def models_with_traffic(self) -> list[str]:
        """Those of whose experiments something is kept."""
        return self._models_with(TRAFFIC_FILE)

    def read(self, model: str) -> ServingState | None:
        """What was written; None: nothing. Raises InvalidInput, naming the file."""
        return self._read(self._folder / model / STATE_FILE, ServingState.from_mapping)

    def read_traffic(self, model: str) -> TrafficState | None:
        """As read()."""
        return self._read(self._folder / model / TRAFFIC_FILE, TrafficState.from_mapping)

    def write(self, model: str, state: ServingState) -> None:
        """Replace the file in one step, and be sure that it is there. Raises Unavailable."""
        self._write(model, STATE_FILE, state.to_mapping(), "what is set")

    def write_traffic(self, model: str, state: TrafficState) -> None:
        """As write()."""
        self._write(model, TRAFFIC_FILE, state.to_mapping(), "what is counted")

    def _models_with(self, name: str) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"[!.]*/{name}"))

    def _read(self, path: Path, make: Callable[[object], _State]) -> _State | None:
        try:
            return make(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from None
        except (InvalidInput, ValueError) as error:
            raise InvalidInput(f"{path}: {error}") from None

    def _write(self, model: str, name: str, mapping: Mapping[str, Any], what: str) -> None:
        path = self._folder / model / name
        text = json.dumps(mapping, indent=2) + "\n"
        try:
            if self._makes_folders:
                path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, text.encode())
        except OSError as error:
            raise Unavailable(
                f"model '{model}': {what} cannot be kept in {path}: {error.strerror}"
            ) from None


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.new")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    # The rename itself is kept only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
