"""The calls of the protocol, by their names on the wire.

Each kind of call has threads of its own and a limit, so that a slow model, open streams and
watchers never hold up a health check.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import pyruntime
from pyruntime.errors import InvalidInput, Overloaded, PyRuntimeError
from pyruntime.frontends import (
    grpc_health,
    grpc_management,
    grpc_reflection,
    grpc_routing,
    model_messages,
    protocol,
)
from pyruntime.frontends.bearer_token import BearerToken
from pyruntime.frontends.call_threads import CallThreads
from pyruntime.frontends.grpc_infer import InferStream, model_infer
from pyruntime.frontends.grpc_shared_memory import SharedMemoryCalls
from pyruntime.frontends.grpc_status import abort, reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pyruntime.frontends import FrontEndOptions
    from pyruntime.frontends.management import Management
    from pyruntime.runtime import LoadAbsent, Model, Runtime

_Behavior = TypeVar("_Behavior", bound="Callable[..., Any]")

EXTENSIONS = ("model_configuration", "statistics")
MANAGEMENT_EXTENSIONS = ("model_repository", "model_repository(unload_dependents)")

_CONTROL_CALLS = 16  # at once: metadata, readiness, health checks
_MANAGEMENT_CALLS = 16  # at once: those that load and unload take their time
_REFUSALS = 2  # at once; others wait, but not for long
_WATCHES = 256  # open at once: health watches and reflection, whose threads mostly sleep
_STREAM_REQUESTS = 32  # of one stream, unanswered at once

# A drain ends when no inference came for so long, or this long after it began: seconds.
_FAREWELL_S = 0.15
_FAREWELL_LIMIT_S = 2.0

_FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass(frozen=True, slots=True)
class _Call:
    """How a call is answered, on which threads, and how when all of them are taken."""

    handler: grpc.RpcMethodHandler[Any, Any]
    threads: CallThreads
    when_full: grpc.RpcMethodHandler[Any, Any]
    is_inference: bool = False
    needs_token: bool = True


class GrpcCalls(grpc.GenericRpcHandler):
    """Finds the handler of a call. Threads: service() from gRPC's own; the rest from any."""

    def __init__(self, runtime: Runtime, options: FrontEndOptions) -> None:
        self._runtime = runtime
        self._registry = runtime._native
        self._management = options.management
        self._route_key_header = options.route_key_header
        self._health = grpc_health.Health(runtime)
        self._shared_memory = SharedMemoryCalls()
        self._is_draining = False
        self._last_refused = 0.0  # time.monotonic(), of an inference while draining
        self._open_lock = threading.Lock()
        self._open_streams: set[InferStream] = set()
        self._open_reflections: set[grpc.ServicerContext] = set()

        self.refusal_threads = CallThreads(_REFUSALS, "refuse")  # refusals never wait for anything
        self._control_threads = CallThreads(_CONTROL_CALLS, "control")
        self._management_threads = CallThreads(_MANAGEMENT_CALLS, "manage")
        self._infer_threads = CallThreads(options.max_inferences, "infer")
        self._stream_threads = CallThreads(options.max_streams, "stream")
        self._watch_threads = CallThreads(_WATCHES, "watch")

        token = self._management.token if self._management is not None else None
        self._token = None if token is None else BearerToken(token)
        self._unauthenticated = reject(
            grpc.StatusCode.UNAUTHENTICATED, "expected metadata `authorization: Bearer TOKEN`"
        )
        self._draining = reject(grpc.StatusCode.UNAVAILABLE, "the server is draining")
        self._calls = self._table()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Choose what answers this call: its handler, or a refusal."""
        call = self._calls.get(handler_call_details.method)
        if call is None:
            method = handler_call_details.method
            return reject(grpc.StatusCode.UNIMPLEMENTED, f"{method}: no such call")
        if (
            self._token is not None
            and call.needs_token
            and not self._token.is_in(handler_call_details.invocation_metadata)
        ):
            return self._unauthenticated
        if call.is_inference and self._is_draining:
            self._last_refused = time.monotonic()
            return self._draining
        if call.threads.is_full:
            return call.when_full
        return call.handler

    def drain(self, deadline: float) -> bool:
        """Refuse inferences from now on, and wait for those under way.

        deadline: of time.monotonic(). Returns whether all were answered by then.
        """
        begin = self._last_refused = time.monotonic()
        self._health.drain()
        self._is_draining = True
        with self._open_lock:
            streams = list(self._open_streams)
        for stream in streams:
            stream.drain()
        is_idle = self._infer_threads.wait_idle(deadline)
        is_idle = self._stream_threads.wait_idle(deadline) and is_idle
        # Once the server ends, gRPC cancels what still comes in. Until callers have heard that
        # they should go elsewhere, tell them.
        deadline = min(deadline, begin + _FAREWELL_LIMIT_S)
        while (now := time.monotonic()) < min(deadline, self._last_refused + _FAREWELL_S):
            time.sleep(min(0.02, deadline - now))
        return is_idle

    def end_watches(self) -> None:
        """End the calls that would go on for ever."""
        self._health.stop()
        with self._open_lock:
            contexts = list(self._open_reflections)
        for context in contexts:
            context.cancel()
        self._watch_threads.wait_idle(time.monotonic() + 1)

    def close(self) -> None:
        """Give back the threads. Call after the server has ended."""
        for pool in (
            self.refusal_threads,
            self._control_threads,
            self._management_threads,
            self._infer_threads,
            self._stream_threads,
            self._watch_threads,
        ):
            pool.shutdown(wait=True)

    def _table(self) -> dict[str, _Call]:
        calls: dict[str, _Call] = {}
        for name in protocol.methods():
            refusal = reject(
                grpc.StatusCode.UNIMPLEMENTED, f"{name}: this server does not implement it"
            )
            calls[protocol.path(name)] = _Call(refusal, self.refusal_threads, refusal)
        for name, behavior in (
            ("ServerLive", self._server_live),
            ("ServerReady", self._server_ready),
            ("ModelReady", self._model_ready),
            ("ServerMetadata", self._server_metadata),
            ("ModelMetadata", self._model_metadata),
            ("ModelConfig", self._model_config),
            ("ModelStatistics", self._model_statistics),
        ):
            path = protocol.path(name)
            calls[path] = self._control(path, protocol.request_class(name), behavior)
        if self._management is not None and self._management.is_only:
            refusal = reject(grpc.StatusCode.PERMISSION_DENIED, "no inferences at this address")
            for name in ("ModelInfer", "ModelStreamInfer"):
                calls[protocol.path(name)] = _Call(refusal, self.refusal_threads, refusal)
        else:
            calls[protocol.path("ModelInfer")] = self._infer_call()
            calls[protocol.path("ModelStreamInfer")] = self._stream_call()
            calls |= self._feedback_calls()
            calls |= self._shared_memory_calls()
        if self._management is not None:
            calls |= self._management_calls(self._management)
        calls |= self._health_calls()
        calls |= self._reflection_calls()
        return calls

    # What the calls do. Each raises the runtime's errors; _control() makes status of them.

    def _server_live(self, request: Any) -> Any:
        del request
        return _ServerLiveResponse(live=True)

    def _server_ready(self, request: Any) -> Any:
        del request
        is_ready = all(model.is_ready for model in self._runtime.models())
        return _ServerReadyResponse(ready=is_ready and not self._is_draining)

    def _model_ready(self, request: Any) -> Any:
        try:
            is_ready = self._find(request).is_ready
        except PyRuntimeError:
            # One that a request would load is ready for it.
            management = self._management
            is_ready = management is not None and management.repository.is_on_demand(request.name)
        return _ModelReadyResponse(ready=is_ready and not self._is_draining)

    def _server_metadata(self, request: Any) -> Any:
        del request
        management = self._management
        can_manage = management is not None and management.refusal is None
        return _ServerMetadataResponse(
            name="pyruntime",
            version=pyruntime.__version__,
            extensions=(
                *EXTENSIONS,
                *self._shared_memory.extensions,
                *(MANAGEMENT_EXTENSIONS if can_manage else ()),
            ),
        )

    def _model_metadata(self, request: Any) -> Any:
        model = self._find(request)
        models = [other for other in self._runtime.models() if other.name == model.name]
        return model_messages.metadata(model, [other.version for other in models])

    def _model_config(self, request: Any) -> Any:
        model = self._find(request)
        config = self._management.repository.config(model.name) if self._management else None
        versions = config.versions if config is not None else None
        return _ModelConfigResponse(config=model_messages.config(model, versions))

    def _model_statistics(self, request: Any) -> Any:
        if request.name and request.version:
            models = [self._find(request)]
        else:
            models = self._runtime.models()
            if request.name:
                models = [model for model in models if model.name == request.name]
                models = models or [self._find(request)]  # says that there is none
        return _ModelStatisticsResponse(
            model_stats=[
                model_messages.statistics(model, self._memory_bytes(model)) for model in models
            ]
        )

    def _memory_bytes(self, model: Model) -> int:
        if self._management is None:
            return 0
        return self._management.repository.size_bytes(model.name, model.version)

    def _find(self, request: Any) -> Model:
        """Find the model that a request names by `name` and `version`."""
        name, version = request.name, request.version
        if not version:
            return self._runtime.model(name)
        if not (version.isascii() and version.isdigit() and len(version) < 19 and int(version)):
            raise InvalidInput(
                f"version: expected a number from 1 on, or nothing for the latest, got {version!r}"
            )
        return self._runtime.model(name, int(version))

    # How the calls are wired.

    def _control(
        self,
        path: str,
        request_class: type[Any],
        behavior: Callable[..., Any],
        threads: CallThreads | None = None,
        *,
        takes_peer: bool = False,
    ) -> _Call:
        threads = self._control_threads if threads is None else threads

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                message = request_class.FromString(request)
                arguments = (message, context.peer()) if takes_peer else (message,)
                response: bytes = behavior(*arguments).SerializeToString()
            except Exception as error:
                abort(context, error)
            return response

        return _Call(
            grpc.unary_unary_rpc_method_handler(_on(threads, answer)),
            threads,
            reject(_FULL, f"{path}: {threads.limit} such calls are under way, the limit"),
        )

    def _management_calls(self, management: Management) -> dict[str, _Call]:
        calls = {}
        refusal = reject(grpc.StatusCode.PERMISSION_DENIED, management.refusal or "")
        refused = _Call(refusal, self.refusal_threads, refusal)
        for method in grpc_management.methods(management.repository):
            is_refused = method.changes or management.refuses_reading
            if management.refusal is not None and is_refused:
                calls[method.path] = refused
                continue
            calls[method.path] = self._control(
                method.path, method.request_class, method.behavior, self._management_threads
            )
        return calls

    def _feedback_calls(self) -> dict[str, _Call]:
        path = protocol.path("Reward", protocol.FEEDBACK)
        request_class = protocol.request_class("Reward", protocol.FEEDBACK)
        behavior = partial(grpc_routing.reward, self._runtime)
        return {path: self._control(path, request_class, behavior)}

    def _shared_memory_calls(self) -> dict[str, _Call]:
        calls = {}
        for name, behavior in self._shared_memory.behaviors().items():
            path, request_class = protocol.path(name), protocol.request_class(name)
            calls[path] = self._control(path, request_class, behavior, takes_peer=True)
        return calls

    def _infer_call(self) -> _Call:
        registry, header = self._registry, self._route_key_header
        shared_with = self._shared_memory.shared_with

        bring_in = self._arrivals(self._infer_threads.limit)

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            shared = shared_with(context.peer())
            return model_infer(registry, request, context, header, bring_in, shared)

        limit = self._infer_threads.limit
        return _Call(
            grpc.unary_unary_rpc_method_handler(_on(self._infer_threads, answer)),
            self._infer_threads,
            reject(_FULL, f"ModelInfer: {limit} inferences are under way, the limit"),
            is_inference=True,
        )

    def _arrivals(self, limit: int) -> LoadAbsent:
        """Wait for models to be loaded, on no more than half of `limit` threads."""
        room = threading.BoundedSemaphore(max(limit // 2, 1))

        def bring_in(
            name: str, timeout_s: float | None, version: int | None
        ) -> AbstractContextManager[float | None] | None:
            wait = self._runtime._bring_in
            if wait is None:
                return None
            if not room.acquire(blocking=False):
                raise Overloaded(f"model '{name}': too many requests wait for models to be loaded")
            try:
                return wait(name, timeout_s, version)
            finally:
                room.release()

        return bring_in

    def _stream_call(self) -> _Call:
        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            stream = InferStream(
                self._registry,
                requests,
                context,
                _STREAM_REQUESTS,
                self._route_key_header,
                self._runtime._bring_in,
                self._shared_memory.shared_with(context.peer()),
            )
            with self._open_lock:
                self._open_streams.add(stream)
            try:
                if self._is_draining:
                    stream.drain()
                yield from stream.answers()
            finally:
                with self._open_lock:
                    self._open_streams.discard(stream)

        limit = self._stream_threads.limit
        return _Call(
            grpc.stream_stream_rpc_method_handler(_on(self._stream_threads, answer)),
            self._stream_threads,
            reject(_FULL, f"ModelStreamInfer: {limit} streams are open, the limit"),
            is_inference=True,
        )

    def _health_calls(self) -> dict[str, _Call]:
        health = self._health

        def check(
            request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
        ) -> health_pb2.HealthCheckResponse:
            return health.check(request, context)

        def watch(
            request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
        ) -> Iterator[health_pb2.HealthCheckResponse]:
            return health.watch(request, context)

        parse = health_pb2.HealthCheckRequest.FromString
        serialize = health_pb2.HealthCheckResponse.SerializeToString
        return {
            f"/{grpc_health.SERVICE}/Check": _Call(
                grpc.unary_unary_rpc_method_handler(
                    _on(self._control_threads, check), parse, serialize
                ),
                self._control_threads,
                reject(_FULL, f"Check: {_CONTROL_CALLS} such calls are under way, the limit"),
                needs_token=False,
            ),
            f"/{grpc_health.SERVICE}/Watch": _Call(
                grpc.unary_stream_rpc_method_handler(
                    _on(self._watch_threads, watch), parse, serialize
                ),
                self._watch_threads,
                reject(_FULL, f"Watch: {_WATCHES} watches are open, the limit"),
                needs_token=False,
            ),
        }

    def _reflection_calls(self) -> dict[str, _Call]:
        servicer = grpc_reflection.servicer()

        def answer(
            requests: Iterator[reflection_pb2.ServerReflectionRequest],
            context: grpc.ServicerContext,
        ) -> Iterator[reflection_pb2.ServerReflectionResponse]:
            with self._open_lock:
                self._open_reflections.add(context)
            try:
                yield from servicer.ServerReflectionInfo(requests, context)
            finally:
                with self._open_lock:
                    self._open_reflections.discard(context)

        call = _Call(
            grpc.stream_stream_rpc_method_handler(
                _on(self._watch_threads, answer),
                reflection_pb2.ServerReflectionRequest.FromString,
                reflection_pb2.ServerReflectionResponse.SerializeToString,
            ),
            self._watch_threads,
            reject(_FULL, f"ServerReflectionInfo: {_WATCHES} watches are open, the limit"),
        )
        names = (grpc_reflection.V1, grpc_reflection.V1ALPHA)
        return {f"/{name}/ServerReflectionInfo": call for name in names}


def _on(threads: CallThreads, behavior: _Behavior) -> _Behavior:
    """Have gRPC run `behavior` on these threads."""
    vars(behavior)["experimental_thread_pool"] = threads
    return behavior


_ServerLiveResponse = protocol.message_class("ServerLiveResponse")
_ServerReadyResponse = protocol.message_class("ServerReadyResponse")
_ModelReadyResponse = protocol.message_class("ModelReadyResponse")
_ServerMetadataResponse = protocol.message_class("ServerMetadataResponse")
_ModelConfigResponse = protocol.message_class("ModelConfigResponse")
_ModelStatisticsResponse = protocol.message_class("ModelStatisticsResponse")
