"""The gRPC health service, over the server, its service and its models.

Names: "" and the service's for the server; MODEL and MODEL/VERSION for models.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

from pyruntime.errors import PyRuntimeError
from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.runtime import Runtime

SERVICE = "grpc.health.v1.Health"

# How soon a watcher learns that a model came or went, seconds.
_WATCH_PERIOD_S = 0.25

_Response = health_pb2.HealthCheckResponse


class Health:
    """What the health service answers. Threads: all calls from any."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._changed = threading.Condition()
        self._is_draining = False
        self._is_over = False

    def drain(self) -> None:
        """Answer NOT_SERVING from now on, and tell watchers."""
        with self._changed:
            self._is_draining = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End every watch."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer Check."""
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no such service: {request.service!r}")
        return _Response(status=status)

    def watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Answer Watch: the status now, and every change of it."""
        if not context.add_callback(self._wake):
            return
        told: int | None = None
        while context.is_active():
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Response(status=status)
                continue
            with self._changed:
                if self._is_over or not threading.main_thread().is_alive():
                    break
                self._changed.wait(_WATCH_PERIOD_S)
        if context.is_active():
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _status(self, service: str) -> int:
        if service in ("", protocol.SERVICE):
            return _Response.NOT_SERVING if self._is_draining else _Response.SERVING
        name, slash, version = service.rpartition("/")
        try:
            if slash and version.isascii() and version.isdigit():
                model = self._runtime.model(name, int(version))
            else:
                model = self._runtime.model(service)
            is_ready = model.is_ready
        except PyRuntimeError:
            return _Response.SERVICE_UNKNOWN
        return _Response.SERVING if is_ready and not self._is_draining else _Response.NOT_SERVING
