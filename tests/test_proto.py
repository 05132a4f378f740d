"""The protocol's descriptors agree with those of a client in the field."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor, FieldDescriptor

protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
service_pb2 = pytest.importorskip(
    "tritonclient.grpc.service_pb2", reason="tritonclient is not installed"
)

PROTO = Path(__file__).parent.parent / "proto"

# What the protocol has and an old client lacks.
NEWER_THAN_CLIENT = {
    "inference.InferResponseStatistics": "younger than tritonclient 2.41",
    "inference.ModelStatistics.response_stats": "younger than tritonclient 2.41",
    "inference.ModelStatistics.ResponseStatsEntry": "younger than tritonclient 2.41",
    "inference.ModelMetadataResponse.properties": "KServe has it, Triton does not",
    "inference.ModelMetadataResponse.PropertiesEntry": "KServe has it, Triton does not",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pool.DescriptorPool:
    """The compiled protocol, in a pool apart from the client's same-named one."""
    out = tmp_path_factory.mktemp("proto") / "inference.binpb"
    arguments = ["protoc", f"-I{PROTO}", f"--descriptor_set_out={out}", "inference.proto"]
    assert protoc.main(arguments) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool


def field_facts(field: FieldDescriptor) -> tuple[object, ...]:
    target = field.message_type or field.enum_type
    return (
        field.number,
        field.type,
        field.is_repeated,
        field.containing_oneof.name if field.containing_oneof else None,
        target.full_name if target else None,
    )


def walk(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for nested in message.nested_types:
        yield from walk(nested)


def client_messages() -> list[Descriptor]:
    config_pb2 = importlib.import_module("tritonclient.grpc.model_config_pb2")
    return [
        nested
        for module in (service_pb2, config_pb2)
        for top in module.DESCRIPTOR.message_types_by_name.values()
        for nested in walk(top)
    ]


def test_every_message_of_the_client_is_there(ours: descriptor_pool.DescriptorPool) -> None:
    for theirs in client_messages():
        ours.FindMessageTypeByName(theirs.full_name)


def test_every_field_of_the_client_is_there_and_equal(
    ours: descriptor_pool.DescriptorPool,
) -> None:
    for theirs in client_messages():
        mine = ours.FindMessageTypeByName(theirs.full_name)
        for field in theirs.fields:
            assert field.name in mine.fields_by_name, field.full_name
            assert field_facts(mine.fields_by_name[field.name]) == field_facts(field), (
                field.full_name
            )


def test_nothing_differs_from_the_client_without_a_reason(
    ours: descriptor_pool.DescriptorPool,
) -> None:
    theirs = {message.full_name: message for message in client_messages()}
    file = ours.FindFileByName("inference.proto")
    for top in file.message_types_by_name.values():
        for mine in walk(top):
            if mine.full_name in NEWER_THAN_CLIENT and mine.full_name not in theirs:
                continue
            assert mine.full_name in theirs, mine.full_name
            known = theirs[mine.full_name]
            for field in mine.fields:
                if field.full_name in NEWER_THAN_CLIENT and field.name not in known.fields_by_name:
                    continue
                assert field.name in known.fields_by_name, field.full_name
                assert field_facts(field) == field_facts(known.fields_by_name[field.name]), (
                    field.full_name
                )
            for enum in mine.enum_types:
                expected = known.enum_types_by_name[enum.name].values_by_name
                assert {v.name: v.number for v in enum.values} == {
                    name: value.number for name, value in expected.items()
                }


def test_the_element_types_of_the_configuration_are_the_client_s(
    ours: descriptor_pool.DescriptorPool,
) -> None:
    config_pb2 = importlib.import_module("tritonclient.grpc.model_config_pb2")
    mine = ours.FindEnumTypeByName("inference.DataType")
    theirs = config_pb2.DESCRIPTOR.enum_types_by_name["DataType"]
    assert {v.name: v.number for v in mine.values} == {v.name: v.number for v in theirs.values}


def test_every_call_of_the_client_is_there_and_equal(
    ours: descriptor_pool.DescriptorPool,
) -> None:
    def calls(service: object) -> dict[str, tuple[object, ...]]:
        proto = descriptor_pb2.ServiceDescriptorProto()
        service.CopyToProto(proto)  # type: ignore[attr-defined]
        return {
            m.name: (m.input_type, m.output_type, m.client_streaming, m.server_streaming)
            for m in proto.method
        }

    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    mine = ours.FindServiceByName("inference.GRPCInferenceService")
    assert calls(mine) == calls(theirs)
