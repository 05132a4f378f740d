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


def _load_pool() -> descriptor_pool.DescriptorPool:
    compiled = resources.files(__package__).joinpath("inference.binpb")
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()


def message_class(name: str) -> type[Any]:
    """Class of the message `name` of package `inference`."""
    descriptor = POOL.FindMessageTypeByName(f"inference.{name}")
    return message_factory.GetMessageClass(descriptor)


def request_class(method: str) -> type[Any]:
    """Class of what the call `method` takes."""
    return message_factory.GetMessageClass(methods()[method].input_type)


def response_class(method: str) -> type[Any]:
    """Class of what the call `method` gives."""
    return message_factory.GetMessageClass(methods()[method].output_type)


def methods() -> dict[str, MethodDescriptor]:
    """Every call of the service, by its name."""
    return dict(POOL.FindServiceByName(SERVICE).methods_by_name)


def path(method: str) -> str:
    """How a call is named on the wire."""
    return f"/{SERVICE}/{method}"
