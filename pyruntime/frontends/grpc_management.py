"""The calls that list, load and unload models, and those that route to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyruntime.errors import InvalidInput
from pyruntime.frontends import protocol
from pyruntime.frontends.grpc_routing import RoutingCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyruntime.repository import ModelRepository

__all__ = ["ManagementMethod", "methods"]


@dataclass(frozen=True, slots=True)
class ManagementMethod:
    """A call. behavior: raises the runtime's errors. changes: what is served."""

    path: str
    request_class: type[Any]
    behavior: Callable[[Any], Any]
    changes: bool = True


def methods(repository: ModelRepository) -> list[ManagementMethod]:
    """Give every management call; a further service adds its own here."""
    calls = RepositoryCalls(repository)
    routing = RoutingCalls(repository)
    own = protocol.MANAGEMENT
    return [
        _method("RepositoryIndex", calls.index, changes=False),
        _method("RepositoryModelLoad", calls.load),
        _method("RepositoryModelUnload", calls.unload),
        _method("GetRouting", routing.get_routing, own, changes=False),
        _method("SetLabels", routing.set_labels, own),
        _method("SetRoute", routing.set_route, own),
        _method("Promote", routing.promote, own),
        _method("GetRollout", routing.get_rollout, own, changes=False),
        _method("Rollback", routing.rollback, own),
    ]


def _method(
    name: str,
    behavior: Callable[[Any], Any],
    service: str = protocol.SERVICE,
    *,
    changes: bool = True,
) -> ManagementMethod:
    path, request_class = protocol.path(name, service), protocol.request_class(name, service)
    return ManagementMethod(path, request_class, behavior, changes=changes)


class RepositoryCalls:
    """The protocol's own calls, as Triton means them; `version` as a parameter is an addition."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def index(self, request: Any) -> Any:
        """Answer RepositoryIndex."""
        self._check_name(request)
        response = _IndexResponse()
        for status in self._repository.index(ready_only=request.ready):
            response.models.add(
                name=status.model,
                version=status.version,
                state=status.state.value,
                reason=status.reason,
            )
        return response

    def load(self, request: Any) -> Any:
        """Answer RepositoryModelLoad."""
        self._check_name(request)
        parameters = {
            name: value
            for name, value in request.parameters.items()
            if not name.startswith(_FILE_PREFIX)
        }
        files = {
            name.removeprefix(_FILE_PREFIX): value.bytes_param
            for name, value in request.parameters.items()
            if name.startswith(_FILE_PREFIX)
        }
        _check_parameters(parameters, ("version", "config", "file:PATH"))
        config = parameters["config"].string_param if "config" in parameters else None
        self._repository.load(request.model_name, _version(parameters), config=config, files=files)
        return _LoadResponse()

    def unload(self, request: Any) -> Any:
        """Answer RepositoryModelUnload."""
        self._check_name(request)
        # Here no model depends on another, so `unload_dependents` changes nothing.
        _check_parameters(request.parameters, ("version", "unload_dependents"))
        self._repository.unload(request.model_name, _version(request.parameters))
        return _UnloadResponse()

    def _check_name(self, request: Any) -> None:
        if request.repository_name:
            raise InvalidInput(
                "repository_name: expected none, as there is one repository, got "
                f"{request.repository_name!r}"
            )


_FILE_PREFIX = "file:"


def _check_parameters(parameters: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in parameters:
        if name not in known:
            expected = ", ".join(map(repr, known))
            raise InvalidInput(f"parameters: expected one of {expected}, got {name!r}")


def _version(parameters: Mapping[str, Any]) -> int | None:
    if "version" not in parameters:
        return None
    parameter = parameters["version"]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"parameter 'version': expected a number from 1 on, got {value!r}")
    return value


_IndexResponse = protocol.message_class("RepositoryIndexResponse")
_LoadResponse = protocol.message_class("RepositoryModelLoadResponse")
_UnloadResponse = protocol.message_class("RepositoryModelUnloadResponse")
