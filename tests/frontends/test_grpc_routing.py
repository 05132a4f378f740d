"""Routing over the wire: keys, labels and experiments in requests, and the calls that set them."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_calling import ROWS, code_of, echo, stream, unary

from pyruntime import Arm, Experiment, Label, Route, Runtime, Shadow, Split, Version
from pyruntime.client import infer_request
from pyruntime.frontends import FrontEndOptions, front_end, protocol
from pyruntime.frontends.management import Management
from pyruntime.repository import ModelRepository, RepositoryOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_Response = protocol.response_class("ModelInfer")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        for version in (1, 2, 3):
            runtime.load("m", version=version, options=echo())
        yield runtime


def ask(channel: grpc.Channel, *, metadata: Any = (), id_: str = "", **parameters: Any) -> Any:
    """Answer to a request with these parameters."""
    request = infer_request("m", {"x": ROWS})
    request.id = id_
    for name, value in parameters.items():
        if isinstance(value, str):
            request.parameters[name].string_param = value
        else:
            request.parameters[name].int64_param = value
    call = unary(channel, "ModelInfer")
    return _Response.FromString(call(request.SerializeToString(), timeout=10, metadata=metadata))


def manage(
    channel: grpc.Channel, name: str, service: str = protocol.MANAGEMENT, **fields: Any
) -> Any:
    """Answer to a call of the package's own services."""
    call = channel.unary_unary(
        protocol.path(name, service),
        response_deserializer=protocol.response_class(name, service).FromString,
    )
    request = protocol.request_class(name, service)(**fields)
    return call(request.SerializeToString(), timeout=10)


# In requests and answers


def test_an_answer_names_the_version_that_gave_it(runtime: Runtime, channel: grpc.Channel) -> None:
    assert ask(channel).model_version == "3"
    runtime.set_route("m", Version(2))
    answer = ask(channel)
    assert answer.model_version == "2"
    assert not answer.parameters


def test_a_label_leads_to_its_version(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.set_label("m", "stable", 1)
    assert ask(channel, label="stable").model_version == "1"
    code, message = code_of(ask, channel, label="canary")
    assert code == grpc.StatusCode.NOT_FOUND
    assert message == "model 'm' has no label 'canary'; it has 'stable' (version 1)"


def test_a_route_key_keeps_a_caller_on_one_version(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.set_route("m", Split({1: 50, 2: 50}))
    model = runtime.model("m")
    for i in range(30):
        key = f"user-{i}"
        here = model.infer_routed({"x": ROWS}, route_key=key)[1].version
        assert {ask(channel, route_key=key).model_version for _ in range(3)} == {str(here)}
    assert len({ask(channel).model_version for _ in range(50)}) == 2


def test_an_experiment_is_named_in_the_answer(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.set_route("m", Experiment("colours", {"a": Arm(1, 0), "b": Arm(2, 100)}))
    answer = ask(channel, id_="r")
    names = {name: value.string_param for name, value in answer.parameters.items()}
    assert names == {"experiment": "colours", "arm": "b"}
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], "f4"), ROWS.ravel())


def test_tritons_client_reads_the_experiment(runtime: Runtime, address: str) -> None:
    triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    runtime.set_route("m", Experiment("colours", {"a": Arm(1, 0), "b": Arm(2, 100)}))
    tensor = triton.InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS)
    with triton.InferenceServerClient(address) as client:
        result = client.infer("m", [tensor], parameters={"route_key": "user-1"})
        assert result.get_response().parameters["arm"].string_param == "b"
        np.testing.assert_array_equal(result.as_numpy("output_0"), ROWS)


def test_requests_of_a_stream_are_routed_each(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.set_route("m", Split({1: 50, 2: 50}))
    requests = [infer_request("m", {"x": ROWS}) for _ in range(60)]
    for i, request in enumerate(requests):
        request.parameters["route_key"].string_param = str(i)
    answers = stream(channel)(iter([request.SerializeToString() for request in requests]))
    seen = Counter(answer.infer_response.model_version for answer in answers)
    assert set(seen) == {"1", "2"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"route_key": 3}, "parameter 'route_key': expected a string, got a value of another type"),
        ({"label": 3}, "parameter 'label': expected a string, got a value of another type"),
    ],
)
def test_a_parameter_of_another_type_is_refused(
    channel: grpc.Channel, parameters: dict[str, Any], message: str
) -> None:
    code, details = code_of(ask, channel, **parameters)
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, message)


def test_a_version_and_a_label_together_are_refused(channel: grpc.Channel) -> None:
    request = infer_request("m", {"x": ROWS}, version="1")
    request.parameters["label"].string_param = "stable"
    code, message = code_of(unary(channel, "ModelInfer"), request.SerializeToString(), timeout=10)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message == (
        "expected a model_version or the parameter 'label', got both: '1' and 'stable'"
    )


def test_a_header_holds_the_key_where_the_request_does_not(runtime: Runtime, servers: Any) -> None:
    runtime.set_route("m", Split({1: 50, 2: 50}))
    address = servers.start(route_key_header="x-user").addresses[0]
    with grpc.insecure_channel(address) as channel:
        for i in range(20):
            key = f"user-{i}"
            by_parameter = ask(channel, route_key=key).model_version
            other = [("x-user", "someone")]
            assert ask(channel, metadata=[("x-user", key)]).model_version == by_parameter
            assert ask(channel, metadata=other, route_key=key).model_version == by_parameter


def test_a_reward_comes_by_the_id_of_the_request(runtime: Runtime, channel: grpc.Channel) -> None:
    runtime.set_route("m", Experiment("colours", {"a": Arm(1, 0), "b": Arm(2, 100)}))
    ask(channel, id_="r")
    fields = {"model": "m", "request_id": "r", "reward": 1.0}
    manage(channel, "Reward", protocol.FEEDBACK, **fields)
    assert [arm.reward_sum for arm in runtime.route_stats("m").arms] == [0, 1]
    code, message = code_of(manage, channel, "Reward", protocol.FEEDBACK, **fields)
    assert code == grpc.StatusCode.NOT_FOUND
    assert "expected one that experiment 'colours' answered lately" in message


# Management


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[ModelRepository]:
    import shutil
    from pathlib import Path

    model = Path(__file__).parents[1] / "models" / "identity_f32.onnx"
    for version in (1, 2, 3):
        folder = tmp_path / "m" / str(version)
        folder.mkdir(parents=True)
        shutil.copy(model, folder / "model.onnx")
    (tmp_path / "m" / "model.toml").write_text(
        '[labels]\nstable = 1\n[route]\npolicy = "label"\nlabel = "stable"\n'
        "[versions]\nspecific = [1, 2]\n"
    )
    with ModelRepository(tmp_path, options=RepositoryOptions()) as repository:
        yield repository


@pytest.fixture
def manager(repository: ModelRepository) -> Iterator[grpc.Channel]:
    options = FrontEndOptions(("127.0.0.1:0",), management=Management(repository))
    server = front_end("grpc")(repository.runtime, options)
    server.start()
    with grpc.insecure_channel(server.addresses[0]) as channel:
        yield channel
    server.stop()


def test_labels_and_route_of_a_model_toml_are_served(
    repository: ModelRepository, manager: grpc.Channel
) -> None:
    routing = manage(manager, "GetRouting", model="m")
    assert dict(routing.labels) == {"stable": 1}
    assert json.loads(routing.route) == {"policy": "label", "label": "stable"}
    assert repository.runtime.model("m").version == 1


def test_labels_move_by_a_call(repository: ModelRepository, manager: grpc.Channel) -> None:
    routing = manage(manager, "SetLabels", model="m", labels={"stable": 2, "old": 1})
    assert dict(routing.labels) == {"stable": 2, "old": 1}
    assert dict(manage(manager, "SetLabels", model="m", labels={"old": 0}).labels) == {"stable": 2}
    assert repository.runtime.model("m").version == 2
    code, message = code_of(manage, manager, "SetLabels", model="m", labels={"stable": 9})
    assert code == grpc.StatusCode.NOT_FOUND
    assert message == "model 'm' has no version 9; loaded: 1, 2"


def test_a_model_that_waits_for_a_request_is_loaded_by_calls_that_move_its_labels(
    repository: ModelRepository, manager: grpc.Channel
) -> None:
    for call, arguments in (
        ("SetLabels", {"labels": {"stable": 2}}),
        ("SetRoute", {"route": '{"policy": "version", "version": 2}'}),
        ("Promote", {"version": 1}),
        ("Rollback", {}),
    ):
        repository.runtime.unload("m")  # as if it had made room
        with repository._lock:
            record = repository._records["m"]
            record.is_waiting = True
            for version in record.versions.values():
                version.model = None
        assert dict(manage(manager, "GetRouting", model="m").labels)
        assert repository.is_on_demand("m")
        manage(manager, call, model="m", **arguments)
        assert repository.runtime.model("m").version == (1 if call == "Promote" else 2)


def test_a_route_is_set_by_a_call_and_given_up_again(
    repository: ModelRepository, manager: grpc.Channel
) -> None:
    route = {
        "policy": "split",
        "shares": {"stable": 50, "2": 50},
        "shadow": {"target": 2, "percent": 50.0},
    }
    routing = manage(manager, "SetRoute", model="m", route=json.dumps(route))
    assert [arm.target for arm in routing.arms] == ["stable", "2"]
    assert routing.HasField("shadow")
    assert repository.runtime.route("m") == Route(Split({"stable": 50, 2: 50}), Shadow(2, 50.0))
    manage(manager, "SetRoute", model="m")
    assert repository.runtime.route("m") == Route(Label("stable"))


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("{", "route: expected JSON, got an error: "),
        ("[]", "route: expected a table, got []"),
        ('{"policy": "coin"}', "route: policy: expected one of "),
    ],
)
def test_a_bad_route_is_refused(manager: grpc.Channel, route: str, message: str) -> None:
    code, details = code_of(manage, manager, "SetRoute", model="m", route=route)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message in details


def test_a_version_is_loaded_to_be_promoted_and_rolled_back_at_once(
    repository: ModelRepository, manager: grpc.Channel
) -> None:
    status = manage(manager, "Promote", model="m", version=3, canary=[25.0], every_s=3600)
    assert (status.status, status.percent, status.stable) == ("running", 25, 1)
    assert repository.runtime.versions_in_use("m") == {1, 3}
    code, message = code_of(manage, manager, "Promote", model="m", version=2)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "version 3 is being rolled out" in message
    status = manage(manager, "Rollback", model="m")
    assert (status.status, status.reason) == ("rolled_back", "asked for")
    assert manage(manager, "GetRollout", model="m") == status
    assert manage(manager, "Promote", model="m", version=3).status == "promoted"
    assert repository.runtime.labels("m") == {"stable": 3}


def test_going_back_without_a_rollout_unloads_the_latest_version(
    repository: ModelRepository, manager: grpc.Channel
) -> None:
    manage(manager, "SetRoute", model="m", route='{"policy": "latest"}')
    repository.load("m", 3)
    before, latest = [one.version for one in repository.runtime.models() if one.name == "m"][-2:]
    status = manage(manager, "Rollback", model="m")
    assert (status.status, status.version, status.stable) == ("rolled_back", latest, before)
    assert repository.runtime.model("m").version == before
    assert code_of(manage, manager, "GetRollout", model="m")[0] == grpc.StatusCode.NOT_FOUND


def test_gates_travel_as_they_are_given(repository: ModelRepository, manager: grpc.Channel) -> None:
    manage(
        manager, "Promote", model="m", version=2, canary=[1.0, 10.0], every_s=60, max_p99=1.2,
        max_error=0.001, max_diff=1e-3, min_requests=7,
    )  # fmt: skip
    status = repository.runtime.rollout("m")
    assert status is not None
    gates = status.rollout.plan.gates
    assert (gates.max_p99, gates.max_error, gates.max_diff) == (1.2, 0.001, 1e-3)
    assert (gates.min_requests, gates.min_compared) == (7, 20)


def test_what_would_answer_as_soon_as_it_is_loaded_is_not_loaded(
    repository: ModelRepository, manager: grpc.Channel
) -> None:
    manage(manager, "SetRoute", model="m", route='{"policy": "latest"}')
    code, message = code_of(manage, manager, "Promote", model="m", version=3)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "so that version 3 would as soon as it is loaded" in message
    assert [model.version for model in repository.runtime.models()] == [1, 2]


def test_calls_for_what_is_not_there_say_so(manager: grpc.Channel) -> None:
    for name in ("GetRouting", "Rollback", "GetRollout"):
        code, message = code_of(manage, manager, name, model="other")
        assert code == grpc.StatusCode.NOT_FOUND
        assert "'other'" in message
    code, message = code_of(manage, manager, "GetRollout", model="m")
    assert message == "model 'm': there was no rollout"
