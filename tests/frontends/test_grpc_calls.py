"""What the server says of itself and its models, to clients in the field and to tools."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_calling import ROWS, code_of, request_bytes, unary
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import pyruntime
from pyruntime import errors
from pyruntime.frontends import grpc_status, protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Servers

    from pyruntime import Runtime

triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture
def field_client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def triton_input(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


# A client in the field


def test_triton_client_infers(field_client: triton.InferenceServerClient) -> None:
    result = field_client.infer("echo", [triton_input("x", ROWS, "FP32")], request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("output_0"), ROWS)
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("echo", "1", "seven")


def test_triton_client_infers_asynchronously(field_client: triton.InferenceServerClient) -> None:
    answers: queue.SimpleQueue = queue.SimpleQueue()
    for scale in range(20):
        inputs = [triton_input("x", scale * ROWS, "FP32")]
        field_client.async_infer("echo", inputs, lambda result, error: answers.put((result, error)))
    sums = set()
    for _ in range(20):
        result, error = answers.get(timeout=10)
        assert error is None
        sums.add(float(result.as_numpy("output_0").sum()))
    assert sums == {float(scale * ROWS.sum()) for scale in range(20)}


def test_triton_client_keeps_zero_bytes_in_strings(
    field_client: triton.InferenceServerClient,
) -> None:
    words = np.array([b"a\0b", b"", b"\0", "gr\u00fc\u00df".encode()], dtype=object)
    result = field_client.infer("words", [triton_input("text", words, "BYTES")])
    assert result.as_numpy("output_0").tolist() == words.tolist()


async def test_triton_aio_client_infers(address: str) -> None:
    import tritonclient.grpc.aio as triton_aio

    async with triton_aio.InferenceServerClient(address) as client:
        made = triton_aio.InferInput("x", list(ROWS.shape), "FP32")
        made.set_data_from_numpy(ROWS)
        results = await asyncio.gather(*(client.infer("echo", [made]) for _ in range(20)))
        assert await client.is_model_ready("echo")
    for result in results:
        np.testing.assert_array_equal(result.as_numpy("output_0"), ROWS)


def test_triton_client_streams(field_client: triton.InferenceServerClient) -> None:
    answers: queue.SimpleQueue = queue.SimpleQueue()
    field_client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        inputs = [triton_input("x", ROWS + number, "FP32")]
        field_client.async_stream_infer("echo", inputs, request_id=str(number))
    for number in range(50):
        result, error = answers.get(timeout=10)
        assert error is None
        assert result.get_response().id == str(number)
        np.testing.assert_array_equal(result.as_numpy("output_0"), ROWS + number)
    field_client.stop_stream()


def test_triton_client_reads_states(field_client: triton.InferenceServerClient) -> None:
    assert field_client.is_server_live()
    assert field_client.is_server_ready()
    assert field_client.is_model_ready("echo")
    assert field_client.is_model_ready("echo", "1")
    assert not field_client.is_model_ready("echo", "2")
    assert not field_client.is_model_ready("nobody")


def test_triton_client_reads_metadata(
    runtime: Runtime, field_client: triton.InferenceServerClient
) -> None:
    runtime.load("mlp", MODELS / "mlp_64_256_256_10.onnx", version=3)
    runtime.load("mlp", MODELS / "mlp_64_256_256_10.onnx", version=11)
    server = field_client.get_server_metadata()
    assert (server.name, server.version) == ("pyruntime", pyruntime.__version__)
    model = field_client.get_model_metadata("mlp")
    assert list(model.versions) == ["3", "11"]
    assert model.platform == "onnxruntime_onnx"
    (given,) = model.inputs
    assert (given.datatype, list(given.shape)) == ("FP32", [-1, 64])
    assert list(model.outputs[0].shape) == [-1, 10]


def test_triton_client_reads_configuration(
    runtime: Runtime, field_client: triton.InferenceServerClient
) -> None:
    runtime.load("mlp", MODELS / "mlp_64_256_256_10.onnx")
    config = field_client.get_model_config("mlp").config
    assert (config.name, config.backend, config.max_batch_size) == ("mlp", "onnxruntime", 256)
    assert list(config.input[0].dims) == [64]  # the batch dimension is implied
    assert config.input[0].data_type == triton.model_config_pb2.TYPE_FP32
    assert config.instance_group[0].count == 1


def test_triton_client_reads_statistics(field_client: triton.InferenceServerClient) -> None:
    for _ in range(5):
        field_client.infer("echo", [triton_input("x", ROWS, "FP32")])
    (stats,) = field_client.get_inference_statistics("echo").model_stats
    assert (stats.name, stats.version) == ("echo", "1")
    assert stats.inference_count == 5 * len(ROWS)
    assert stats.execution_count == 5
    assert stats.inference_stats.success.count == 5
    assert stats.inference_stats.success.ns >= stats.inference_stats.compute_infer.ns > 0
    assert stats.inference_stats.fail.count == 0
    assert [(batch.batch_size, batch.compute_infer.count) for batch in stats.batch_stats] == [
        (2, 5)
    ]
    assert stats.last_inference > 1_700_000_000_000
    assert {one.name for one in field_client.get_inference_statistics().model_stats} == {
        "echo",
        "words",
    }


# Names, versions and calls that there are not


@pytest.mark.parametrize("version", ["2", "9", "7" * 18, "0", "-1", "abc", "9" * 30, "\u0661"])
@pytest.mark.parametrize("name", ["ModelInfer", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_unknown_version_is_not_found_and_what_is_none_is_invalid(
    channel: grpc.Channel, name: str, version: str
) -> None:
    if name == "ModelInfer":
        request = request_bytes(model_version=version)
    else:
        request = protocol.request_class(name)(name="echo", version=version).SerializeToString()
    code, message = code_of(unary(channel, name), request)
    if version in ("2", "9", "7" * 18):
        assert code == grpc.StatusCode.NOT_FOUND
        assert "echo" in message
    else:
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "expected a number" in message
    assert version in message


def test_unknown_model_is_not_found(channel: grpc.Channel) -> None:
    for name in ("ModelMetadata", "ModelConfig", "ModelStatistics"):
        request = protocol.request_class(name)(name="nobody").SerializeToString()
        assert code_of(unary(channel, name), request)[0] == grpc.StatusCode.NOT_FOUND
    code, message = code_of(unary(channel, "ModelInfer"), request_bytes(model="nobody"))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "nobody" in message


IMPLEMENTED = {
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"),
    *("ModelInfer", "ModelStreamInfer", "ModelConfig", "ModelStatistics"),
    *(
        f"{kind}SharedMemory{verb}"
        for kind in ("System", "Cuda")
        for verb in ("Register", "Unregister", "Status")
    ),
}


@pytest.mark.parametrize("name", sorted(set(protocol.methods()) - IMPLEMENTED))
def test_call_that_is_not_implemented_says_so(channel: grpc.Channel, name: str) -> None:
    code, message = code_of(unary(channel, name), b"")
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert name in message


def test_call_that_nobody_knows_is_unimplemented(channel: grpc.Channel) -> None:
    code, message = code_of(channel.unary_unary("/some.Service/Call"), b"")
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "/some.Service/Call" in message


def test_bytes_that_are_no_message_are_invalid(channel: grpc.Channel) -> None:
    for name in sorted(IMPLEMENTED - {"ModelStreamInfer", "ServerLive", "ServerReady"}):
        code, _ = code_of(unary(channel, name), b"\xff\xff\xff")
        assert code == grpc.StatusCode.INVALID_ARGUMENT, name


# Errors


def test_every_error_has_a_status() -> None:
    assert set(grpc_status.STATUS_OF) == set(errors.BY_CODE.values())
    assert len(set(grpc_status.STATUS_OF.values())) == len(grpc_status.STATUS_OF)


def test_long_message_is_cut_to_fit_a_header(channel: grpc.Channel) -> None:
    request = protocol.request_class("ModelMetadata")(name="\u00fc" * 50_000).SerializeToString()
    code, message = code_of(unary(channel, "ModelMetadata"), request)
    assert code == grpc.StatusCode.NOT_FOUND
    assert message.endswith("[...]")


# Health


def test_health_check_knows_server_service_and_models(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", protocol.SERVICE, "echo", "echo/1"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    for service in ("nobody", "echo/2", "echo/", "/"):
        code, _ = code_of(stub.Check, health_pb2.HealthCheckRequest(service=service))
        assert code == grpc.StatusCode.NOT_FOUND, service


def test_health_watch_tells_when_a_model_comes_and_goes(
    runtime: Runtime, channel: grpc.Channel
) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="late"), timeout=20
    )
    response = health_pb2.HealthCheckResponse
    assert next(watch).status == response.SERVICE_UNKNOWN
    runtime.load("late", MODELS / "identity_f32.onnx")
    assert next(watch).status == response.SERVING
    runtime.unload("late")
    assert next(watch).status == response.SERVICE_UNKNOWN
    watch.cancel()


def test_watches_take_no_thread_from_other_calls(address: str, channel: grpc.Channel) -> None:
    with grpc.insecure_channel(address) as other:
        stub = health_pb2_grpc.HealthStub(other)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(60)]
        for watch in watches:
            next(watch)
        unary(channel, "ServerLive")(b"", timeout=5)
        for watch in watches:
            watch.cancel()


# Reflection


def reflect(channel: grpc.Channel, service: str, **request: str) -> object:
    call = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = call(iter([reflection_pb2.ServerReflectionRequest(**request)]))
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_services_and_gives_their_files(
    channel: grpc.Channel, version: str
) -> None:
    service = f"grpc.reflection.{version}.ServerReflection"
    listed = reflect(channel, service, list_services="").list_services_response
    names = {one.name for one in listed.service}
    assert {protocol.SERVICE, "grpc.health.v1.Health", service} <= names
    for name in names:
        answer = reflect(channel, service, file_containing_symbol=name).file_descriptor_response
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_proto
        ]
        assert any(
            name == f"{file.package}.{one.name}" for file in files for one in file.service
        ), name


def test_reflection_stub_of_the_library_works(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Name")]
    (answer,) = stub.ServerReflectionInfo(iter(requests))
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


# Sockets


def test_several_addresses_at_once_tcp_and_unix(servers: Servers, tmp_path: Path) -> None:
    socket = tmp_path / "grpc.sock"
    server = servers.start("127.0.0.1:0", "localhost:0", f"unix:{socket}")
    assert len(server.addresses) == 3
    for address in server.addresses:
        with grpc.insecure_channel(address) as channel:
            unary(channel, "ServerLive")(b"", timeout=5)
    server.stop()
    assert not socket.exists()


def test_port_in_use_is_an_error_that_names_it(servers: Servers) -> None:
    (address,) = servers.start().addresses
    with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
        servers.start("127.0.0.1:0", address)


def test_unix_socket_in_use_is_an_error_and_a_stale_one_is_not(
    servers: Servers, tmp_path: Path
) -> None:
    import socket

    path = tmp_path / "grpc.sock"
    servers.start(f"unix:{path}")
    with pytest.raises(OSError, match="another process listens there"):
        servers.start(f"unix:{path}")
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(stale))
    servers.start(f"unix:{stale}")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="not a socket"):
        servers.start(f"unix:{tmp_path / 'file'}")
    assert (tmp_path / "file").exists()


def test_server_listens_only_where_it_was_told(servers: Servers) -> None:
    (address,) = servers.start().addresses
    port = int(address.rpartition(":")[2])
    listening = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/{os.getpid()}/net/{family}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                listening.add(local.rpartition(":")[0])
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, as v4 or v6
    assert listening


def test_stop_leaves_no_thread_behind(servers: Servers) -> None:
    server = servers.start()
    with grpc.insecure_channel(server.addresses[0]) as channel:
        unary(channel, "ModelInfer")(request_bytes(), timeout=5)
    server.stop()
    kinds = ("infer", "stream", "control", "watch", "refuse")
    ours = tuple(f"pyruntime-{kind}" for kind in kinds)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(ours)]
