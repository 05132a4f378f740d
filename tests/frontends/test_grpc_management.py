"""Listing, loading and unloading over gRPC, and who may."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from pyruntime import InvalidInput, ModelNotFound, PyRuntimeError
from pyruntime.client import Client
from pyruntime.frontends import FrontEndOptions, front_end
from pyruntime.frontends.management import Management
from pyruntime.repository import ModelRepository, RepositoryOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

MODEL = Path(__file__).parents[1] / "models" / "identity_f32.onnx"


def add(root: Path, model: str, version: int) -> Path:
    folder = root / model / str(version)
    folder.mkdir(parents=True)
    return Path(shutil.copy(MODEL, folder / "model.onnx"))


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[ModelRepository]:
    for version in (1, 2):
        add(tmp_path, "m", version)
    add(tmp_path, "other", 1)
    options = RepositoryOptions(mode="explicit", load=("m",))
    with ModelRepository(tmp_path, options=options) as repository:
        yield repository


@pytest.fixture
def serve(repository: ModelRepository) -> Iterator[Callable[..., str]]:
    started = []

    def start(**management: object) -> str:
        options = FrontEndOptions(
            ("127.0.0.1:0",),
            management=Management(repository, **management),  # type: ignore[arg-type]
        )
        server = front_end("grpc")(repository.runtime, options)
        server.start()
        started.append(server)
        return server.addresses[0]

    yield start
    for server in started:
        server.stop()


def test_triton_client_manages_models(serve: Callable[..., str]) -> None:
    with triton.InferenceServerClient(serve()) as client:
        index = client.get_model_repository_index(as_json=True)["models"]
        assert [(one["name"], one["version"], one["state"]) for one in index] == [
            ("m", "1", "UNAVAILABLE"),
            ("m", "2", "READY"),
            ("other", "1", "UNAVAILABLE"),
        ]
        assert not client.is_model_ready("other")
        client.load_model("other")
        assert client.is_model_ready("other")
        client.unload_model("other")
        client.unload_model("m", unload_dependents=True)
        assert not client.is_model_ready("m")
        extensions = client.get_server_metadata().extensions
        assert {"model_repository", "model_repository(unload_dependents)"} <= set(extensions)
        with pytest.raises(triton.InferenceServerException, match="'x': not in the repository"):
            client.load_model("x")


def test_versions_are_managed_one_by_one(serve: Callable[..., str]) -> None:
    with Client(serve()) as client:
        client.load("m", 1)
        ready = client.repository_index(ready_only=True).models
        assert [(one.name, one.version) for one in ready] == [("m", "1"), ("m", "2")]
        client.unload("m", 2)
        ready = client.repository_index(ready_only=True).models
        assert [(one.name, one.version) for one in ready] == [("m", "1")]
        with pytest.raises(ModelNotFound, match="no version 9; found: 1, 2"):
            client.load("m", 9)


def test_a_refused_caller_is_told_why(serve: Callable[..., str]) -> None:
    with Client(serve(refusal="ask elsewhere")) as client:
        assert len(client.repository_index().models) == 3
        with pytest.raises(PyRuntimeError, match="PERMISSION_DENIED: ask elsewhere"):
            client.load("m")
    with (
        Client(serve(refusal="ask elsewhere", refuses_reading=True)) as client,
        pytest.raises(PyRuntimeError, match="PERMISSION_DENIED: ask elsewhere"),
    ):
        client.repository_index()


def test_a_token_is_needed_where_one_is_set(serve: Callable[..., str]) -> None:
    address = serve(token="secret", is_only=True)
    for token in (None, "wrong", "secret "):
        with (
            Client(address, token=token) as client,
            pytest.raises(PyRuntimeError, match="UNAUTHENTICATED"),
        ):
            client.repository_index()
    with Client(address, token="secret") as client:
        assert client.repository_index().models
        with pytest.raises(PyRuntimeError, match="no inferences at this address"):
            client.infer("m", {})
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status


def test_unknown_parameters_are_named(serve: Callable[..., str]) -> None:
    from pyruntime.frontends import protocol

    request = protocol.message_class("RepositoryModelLoadRequest")(model_name="m")
    request.parameters["speed"].string_param = "fast"
    with Client(serve()) as client:
        with pytest.raises(InvalidInput, match="got 'speed'"):
            client._call("RepositoryModelLoad", 10, request)
        del request.parameters["speed"]
        request.parameters["version"].string_param = "two"
        with pytest.raises(InvalidInput, match="'version': expected a number"):
            client._call("RepositoryModelLoad", 10, request)
        request.parameters["version"].string_param = "1"
        client._call("RepositoryModelLoad", 10, request)
        request = protocol.message_class("RepositoryIndexRequest")(repository_name="r")
        with pytest.raises(InvalidInput, match="repository_name"):
            client._call("RepositoryIndex", 10, request)


def test_triton_client_overrides_configuration_and_files(serve: Callable[..., str]) -> None:
    import json

    with triton.InferenceServerClient(serve()) as client:
        client.load_model("m", config='{"max_batch_size": 3, "version_policy": {"all": {}}}')
        config = client.get_model_config("m").config
        assert config.max_batch_size == 3
        assert config.version_policy.HasField("all")
        assert client.is_model_ready("m", "1")

        files = {"file:5/model.onnx": MODEL.read_bytes()}
        client.load_model("new", config=json.dumps({"max_batch_size": 2}), files=files)
        assert client.is_model_ready("new", "5")
        client.load_model("m")  # as in its folder again
        assert client.get_model_config("m").config.version_policy.latest.num_versions == 1

        for parameters, said in (
            ({"config": '{"max_batch_sizes": 3}'}, "config: expected a ModelConfig as JSON"),
            ({"config": "{}", "files": {"file:model.onnx": b"x"}}, "expected VERSION/FILE"),
            ({"config": "{}", "files": {"file:1/../../x": b"x"}}, "expected VERSION/FILE"),
            ({"config": "{}", "files": {"file:9/model.onnx": b"junk"}}, "version 9"),
        ):
            with pytest.raises(triton.InferenceServerException, match=said):
                client.load_model("m", **parameters)
            assert client.is_model_ready("m", "2")


def test_triton_client_is_refused_above_max_batch_size_as_by_triton(
    serve: Callable[..., str],
) -> None:
    def infer(client: Any, rows: int) -> None:
        x = triton.InferInput("x", [rows, 16], "FP32")
        x.set_data_from_numpy(np.zeros((rows, 16), np.float32))
        client.infer("m", [x])

    with triton.InferenceServerClient(serve()) as client:
        infer(client, 4)
        client.load_model("m", config='{"max_batch_size": 3}')
        infer(client, 3)
        with pytest.raises(triton.InferenceServerException, match="at most 3 rows") as caught:
            infer(client, 4)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert "got 4" in caught.value.message()


def test_a_model_toml_is_taken_as_configuration(serve: Callable[..., str]) -> None:
    with Client(serve()) as client:
        client.load("m", config="[versions]\nspecific = [1]\n")
        ready = client.repository_index(ready_only=True).models
        assert [one.version for one in ready if one.name == "m"] == ["1", "2"]  # 2 is kept
        with pytest.raises(InvalidInput, match="config: versions: expected keys among"):
            client.load("m", config="[versions]\nlast = 1\n")
        with pytest.raises(InvalidInput, match="config: expected TOML"):
            client.load("m", config="[versions\n")


def test_a_management_socket_is_its_owner_s_alone(
    repository: ModelRepository, tmp_path: Path
) -> None:
    path = tmp_path / "management.sock"
    management = Management(repository, is_only=True)
    server = front_end("grpc")(
        repository.runtime, FrontEndOptions((f"unix:{path}",), management=management)
    )
    server.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        with Client(f"unix:{path}") as client:
            assert client.repository_index().models
    finally:
        server.stop()
