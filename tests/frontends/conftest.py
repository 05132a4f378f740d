"""A server on a port of its own, with models that echo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_calling import echo

from pyruntime import Runtime, TensorSpec
from pyruntime.client import Client
from pyruntime.frontends import FrontEndOptions, front_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.frontends import FrontEnd


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        runtime.load("echo", options=echo())
        runtime.load("words", options=echo(TensorSpec("text", "string", (-1,))))
        yield runtime


class Servers:
    """Starts front ends, and stops them in the end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._started: list[FrontEnd] = []

    def start(self, *addresses: str, **options: object) -> FrontEnd:
        addresses = addresses or ("127.0.0.1:0",)
        server = front_end("grpc")(
            self._runtime,
            FrontEndOptions(addresses=addresses, **options),  # type: ignore[arg-type]
        )
        server.start()
        self._started.append(server)
        return server

    def stop(self) -> None:
        for server in self._started:
            server.stop()


@pytest.fixture
def servers(runtime: Runtime) -> Iterator[Servers]:
    servers = Servers(runtime)
    yield servers
    servers.stop()


@pytest.fixture
def address(servers: Servers) -> str:
    return servers.start().addresses[0]


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel
