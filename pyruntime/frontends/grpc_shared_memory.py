"""The calls that register memory of clients on this machine, as Triton means them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from pyruntime._core import SharedMemory, backends
from pyruntime.errors import InvalidInput
from pyruntime.frontends import protocol
from pyruntime.frontends.grpc_status import CallRefused

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SharedMemoryCalls", "is_local"]


def is_local(peer: str) -> bool:
    """Whether gRPC's name of a peer, such as "ipv4:127.0.0.1:50610", is of this machine."""
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return True
    if kind == "ipv4":
        return address.startswith("127.")
    return kind == "ipv6" and address.replace("%5B", "[").replace("%5D", "]").startswith("[::1]")


class SharedMemoryCalls:
    """What the calls do. Each takes a request and the peer, and raises the runtime's errors.

    Memory is shared with who is on this machine alone: over a Unix socket or the loopback
    interface. Whoever may call may map what the server may.
    """

    extensions: tuple[str, ...]

    def __init__(self) -> None:
        self.shared = SharedMemory()
        has_cuda = any(name == "cuda" and count for name, count, *_ in backends())
        self.extensions = ("system_shared_memory", *(("cuda_shared_memory",) if has_cuda else ()))

    def shared_with(self, peer: str) -> SharedMemory | None:
        """What requests of that peer may use."""
        return self.shared if is_local(peer) else None

    def behaviors(self) -> dict[str, Callable[[Any, str], Any]]:
        """Give every call, by its name in the protocol."""
        return {
            "SystemSharedMemoryRegister": self._register_system,
            "SystemSharedMemoryUnregister": self._unregister_system,
            "SystemSharedMemoryStatus": self._system_status,
            "CudaSharedMemoryRegister": self._register_cuda,
            "CudaSharedMemoryUnregister": self._unregister_cuda,
            "CudaSharedMemoryStatus": self._cuda_status,
        }

    def _register_system(self, request: Any, peer: str) -> Any:
        self._check_new(request.name, peer)
        self.shared.add_system(request.name, request.key, request.offset, request.byte_size)
        return _SystemRegistered()

    def _unregister_system(self, request: Any, peer: str) -> Any:
        _check_local(peer)
        self.shared.remove_system(request.name)
        return _SystemUnregistered()

    def _system_status(self, request: Any, peer: str) -> Any:
        _check_local(peer)
        response = _SystemStatus()
        for name, key, offset, byte_size in self.shared.system_regions():
            if request.name in ("", name):
                region = response.regions[name]
                region.name, region.key = name, key
                region.offset, region.byte_size = offset, byte_size
        self._check_found(request.name, response.regions, "system")
        return response

    def _register_cuda(self, request: Any, peer: str) -> Any:
        self._check_new(request.name, peer)
        device = request.device_id
        if not 0 <= device < 1 << 15:
            raise InvalidInput(f"device_id: expected an index of a GPU, got {device}")
        self.shared.add_cuda(request.name, request.raw_handle, device, request.byte_size)
        return _CudaRegistered()

    def _unregister_cuda(self, request: Any, peer: str) -> Any:
        _check_local(peer)
        self.shared.remove_cuda(request.name)
        return _CudaUnregistered()

    def _cuda_status(self, request: Any, peer: str) -> Any:
        _check_local(peer)
        response = _CudaStatus()
        for name, device_id, byte_size in self.shared.cuda_regions():
            if request.name in ("", name):
                region = response.regions[name]
                region.name, region.device_id, region.byte_size = name, device_id, byte_size
        self._check_found(request.name, response.regions, "cuda")
        return response

    def _check_new(self, name: str, peer: str) -> None:
        _check_local(peer)
        if self.shared.has(name):
            raise CallRefused(
                grpc.StatusCode.ALREADY_EXISTS,
                f"shared memory region '{name}' already in manager",
            )

    def _check_found(self, name: str, found: object, kind: str) -> None:
        if not name or found:
            return
        text = f"Unable to find {kind} shared memory region: '{name}'"
        if self.shared.has(name):
            other = "CUDA" if kind == "system" else "system"
            text = f"The region named '{name}' is registered as {other} shared memory"
        raise CallRefused(grpc.StatusCode.NOT_FOUND, text)


def _check_local(peer: str) -> None:
    if not is_local(peer):
        raise CallRefused(
            grpc.StatusCode.PERMISSION_DENIED,
            f"shared memory: expected a client on this machine, over a Unix socket or the loopback "
            f"interface, got {peer}",
        )


_SystemStatus = protocol.message_class("SystemSharedMemoryStatusResponse")
_SystemRegistered = protocol.message_class("SystemSharedMemoryRegisterResponse")
_SystemUnregistered = protocol.message_class("SystemSharedMemoryUnregisterResponse")
_CudaStatus = protocol.message_class("CudaSharedMemoryStatusResponse")
_CudaRegistered = protocol.message_class("CudaSharedMemoryRegisterResponse")
_CudaUnregistered = protocol.message_class("CudaSharedMemoryUnregisterResponse")
