"""Server reflection, versions v1 and v1alpha: the same messages under two names."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from pyruntime.frontends import grpc_health, protocol

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"


def servicer() -> reflection.ReflectionServicer:
    """Build what answers either version, from a pool that holds every service here."""
    pool = descriptor_pool.DescriptorPool()
    for descriptor in (
        protocol.POOL.FindFileContainingSymbol(protocol.SERVICE),
        protocol.POOL.FindFileContainingSymbol(protocol.MANAGEMENT),
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    ):
        pool.AddSerializedFile(descriptor.serialized_pb)
    pool.AddSerializedFile(_v1().SerializeToString())
    names = (*protocol.SERVICES, grpc_health.SERVICE, V1ALPHA, V1)
    return reflection.ReflectionServicer(names, pool=pool)


def _v1() -> descriptor_pb2.FileDescriptorProto:
    """Rename v1alpha's file, package and types."""
    old = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(old)
    new = descriptor_pb2.FileDescriptorProto()
    new.CopyFrom(old)
    new.name = "grpc/reflection/v1/reflection.proto"
    new.package = "grpc.reflection.v1"
    for message in new.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = field.type_name.replace(old.package, new.package)
    for service in new.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old.package, new.package)
            method.output_type = method.output_type.replace(old.package, new.package)
    return new
