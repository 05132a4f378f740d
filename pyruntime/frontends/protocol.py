"""The protocol's messages, in a descriptor pool of their own.

Clients of the same protocol register the same names in protobuf's default pool, and both must
live in one process.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

SERVICE = "inference.GRPCInferenceService"
MANAGEMENT = "pyruntime.Management"
FEEDBACK = "pyruntime.Feedback"
SERVICES = (SERVICE, MANAGEMENT, FEEDBACK)


def _load_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for name in ("inference.binpb", "management.binpb"):
        compiled = resources.files(__package__).joinpath(name)
        files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
        for file in files.file:
            pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()


def message_class(name: str, package: str = "inference") -> type[Any]:
    """Class of the message `name` of a package."""
    descriptor = POOL.FindMessageTypeByName(f"{package}.{name}")
    return message_factory.GetMessageClass(descriptor)


def request_class(method: str, service: str = SERVICE) -> type[Any]:
    """Class of what the call `method` takes."""
    return message_factory.GetMessageClass(methods(service)[method].input_type)


def response_class(method: str, service: str = SERVICE) -> type[Any]:
    """Class of what the call `method` gives."""
    return message_factory.GetMessageClass(methods(service)[method].output_type)


def methods(service: str = SERVICE) -> dict[str, MethodDescriptor]:
    """Every call of a service, by its name."""
    return dict(POOL.FindServiceByName(service).methods_by_name)


def path(method: str, service: str = SERVICE) -> str:
    """How a call is named on the wire."""
    return f"/{service}/{method}"
