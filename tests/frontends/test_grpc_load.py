"""Slow models, many callers, deadlines, cancellation, streams."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_calling import ROWS, assert_lives_on, code_of, echo, request_bytes, stream, unary
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from pyruntime import Runtime

Response = protocol.response_class("ModelInfer")


def wait_until(condition: Any, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# Admission


def test_control_calls_are_answered_at_once_behind_a_slow_model(
    runtime: Runtime, servers: Any
) -> None:
    model = runtime.load("slow", options=echo(delay_us=400_000, max_rows=1))
    (address,) = servers.start(max_inferences=8).addresses
    with (
        grpc.insecure_channel(address) as channel,
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        health = health_pb2_grpc.HealthStub(other)
        health.Check(health_pb2.HealthCheckRequest())
        call = unary(channel, "ModelInfer")
        futures = [call.future(request_bytes(model="slow")) for _ in range(8)]
        wait_until(lambda: model.stats().accepted == 8)
        calls = {
            "Check": lambda: health.Check(health_pb2.HealthCheckRequest(service="slow")),
            "ServerReady": lambda: unary(other, "ServerReady")(b""),
            "ModelMetadata": lambda: unary(other, "ModelMetadata")(b"\n\x04slow"),
            "ModelStatistics": lambda: unary(other, "ModelStatistics")(b"\n\x04slow"),
        }
        for name, ask in calls.items():
            times_ms = []
            for _ in range(40):
                begin = time.perf_counter()
                ask()
                times_ms.append((time.perf_counter() - begin) * 1000)
            assert statistics.median(times_ms) < 5, name
        assert model.stats().completed < 8  # it was slow all the while
        for future in futures:
            future.cancel()


def test_inferences_past_the_limit_are_refused_at_once(runtime: Runtime, servers: Any) -> None:
    model = runtime.load("slow", options=echo(delay_us=500_000, max_rows=1))
    (address,) = servers.start(max_inferences=2).addresses
    with grpc.insecure_channel(address) as channel:
        call = unary(channel, "ModelInfer")
        futures = [call.future(request_bytes(model="slow")) for _ in range(2)]
        wait_until(lambda: model.stats().accepted == 2)
        begin = time.perf_counter()
        code, message = code_of(call, request_bytes(), timeout=5)
        assert time.perf_counter() - begin < 0.3
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 inferences are under way" in message
        for future in futures:
            assert Response.FromString(future.result(timeout=10)).outputs
        wait_until(lambda: call.future(request_bytes(), timeout=5).exception() is None)


def test_full_queue_is_resource_exhausted(runtime: Runtime, channel: grpc.Channel) -> None:
    import dataclasses

    options = echo(delay_us=300_000, max_rows=1)
    batching = dataclasses.replace(options.batching, queue_capacity=1)
    runtime.load("narrow", options=dataclasses.replace(options, batching=batching))
    call = unary(channel, "ModelInfer")
    futures = [call.future(request_bytes(model="narrow"), timeout=20) for _ in range(12)]
    codes = [future.code() for future in futures]
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert_lives_on(channel)


def test_callers_that_leave_before_they_send_take_no_place(servers: Any) -> None:
    """A place is given back however a call ends."""
    (address,) = servers.start(max_inferences=2).addresses
    with grpc.insecure_channel(address) as channel:
        for _ in range(20):
            call = channel.stream_unary(protocol.path("ModelInfer"))
            silent = threading.Event()
            future = call.future(iter(silent.wait, True))  # sends nothing until set
            time.sleep(0.005)
            future.cancel()
            silent.set()
        wait_until(lambda: unary(channel, "ModelInfer").future(request_bytes()).exception() is None)


# Deadlines and cancellation


def test_deadline_reaches_the_scheduler(runtime: Runtime, channel: grpc.Channel) -> None:
    model = runtime.load("slow", options=echo(delay_us=300_000, max_rows=1))
    call = unary(channel, "ModelInfer")
    first = call.future(request_bytes(model="slow"))
    wait_until(lambda: model.stats().accepted == 1)
    code, _ = code_of(call, request_bytes(model="slow"), timeout=0.1)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert first.result()
    wait_until(lambda: sum_of_ends(model) == 2)
    stats = model.stats()
    assert stats.batches == 1  # what nobody waited for did not run
    assert stats.completed == 1


def sum_of_ends(model: Any) -> int:
    stats = model.stats()
    return int(stats.completed + stats.failed + stats.cancelled)


def test_cancelled_call_leaves_the_queue(runtime: Runtime, channel: grpc.Channel) -> None:
    model = runtime.load("slow", options=echo(delay_us=300_000, max_rows=1))
    call = unary(channel, "ModelInfer")
    first = call.future(request_bytes(model="slow"))
    wait_until(lambda: model.stats().accepted == 1)
    second = call.future(request_bytes(model="slow"))
    wait_until(lambda: model.stats().accepted == 2)
    second.cancel()
    wait_until(lambda: model.stats().cancelled == 1, timeout_s=0.25)
    assert first.result()
    assert model.stats().batches == 1


def test_cancelling_the_only_call_of_a_batch_ends_its_run(
    runtime: Runtime, channel: grpc.Channel
) -> None:
    model = runtime.load("endless", options=echo(delay_us=60_000_000))
    call = unary(channel, "ModelInfer").future(request_bytes(model="endless"))
    wait_until(lambda: model.stats().accepted == 1)
    time.sleep(0.02)
    call.cancel()
    wait_until(lambda: model.stats().cancelled == 1)


def test_cancelling_the_first_of_a_batch_leaves_the_others_their_answers(
    runtime: Runtime, channel: grpc.Channel
) -> None:
    model = runtime.load("slow", options=echo(delay_us=100_000))
    call = unary(channel, "ModelInfer")
    running = call.future(request_bytes(model="slow"))
    wait_until(lambda: model.stats().accepted == 1)
    sent = [np.full((1, 4), i, np.float32) for i in range(6)]
    futures = []
    for x in sent:  # one after another, so that the first is the first
        futures.append(call.future(request_bytes(x, "slow"), timeout=20))
        wait_until(lambda: model.stats().accepted == 1 + len(futures))
    futures[0].cancel()
    for x, future in list(zip(sent, futures, strict=True))[1:]:
        assert Response.FromString(future.result()).raw_output_contents[0] == x.tobytes()
    assert running.result()


# Streams


def test_stream_runs_requests_at_once_and_answers_in_order(
    runtime: Runtime, channel: grpc.Channel
) -> None:
    model = runtime.load("slow", options=echo(delay_us=20_000))
    requests = [request_bytes(ROWS[:1] + i, "slow", id=str(i)) for i in range(40)]
    begin = time.perf_counter()
    answers = list(stream(channel)(iter(requests), timeout=20))
    elapsed_s = time.perf_counter() - begin
    assert [answer.infer_response.id for answer in answers] == [str(i) for i in range(40)]
    for i, answer in enumerate(answers):
        assert answer.infer_response.raw_output_contents[0] == (ROWS[:1] + i).tobytes()
    assert elapsed_s < 0.4  # one after another they would take 0.8 s
    assert model.stats().batches < 20


def test_error_in_a_stream_names_its_request(channel: grpc.Channel) -> None:
    requests = [
        request_bytes(id="a", model="nobody"),
        b"\xff\xff\xff",
        request_bytes(id="b"),
    ]
    first, second, third = stream(channel)(iter(requests), timeout=10)
    assert first.error_message.startswith("ModelNotFound: ")
    assert first.infer_response.id == "a"
    assert second.error_message.startswith("InvalidInput: ")
    assert not third.error_message
    assert third.infer_response.id == "b"


def test_stream_answers_while_its_client_still_thinks(channel: grpc.Channel) -> None:
    requests: queue.SimpleQueue = queue.SimpleQueue()
    answers = stream(channel)(iter(requests.get, None), timeout=10)
    for number in range(5):
        requests.put(request_bytes(id=str(number)))
        assert next(answers).infer_response.id == str(number)
    requests.put(None)
    assert list(answers) == []


def test_streams_past_the_limit_are_refused_and_end_gives_the_place_back(servers: Any) -> None:
    (address,) = servers.start(max_streams=2).addresses
    with grpc.insecure_channel(address) as channel:
        done = threading.Event()
        opened = []
        for _ in range(2):
            opened.append(stream(channel)(iter([request_bytes()]).__iter__()))
        for answers in opened:
            assert len(list(answers)) == 1
        # A queue each: from one queue, one stream may take what is meant for both.
        held: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(2)]
        opened = [stream(channel)(iter(requests.get, None)) for requests in held]
        for requests in held:
            requests.put(request_bytes())
        for answers in opened:
            next(answers)
        code, message = code_of(list, stream(channel)(iter([request_bytes()]), timeout=5))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 streams are open" in message
        assert_lives_on(channel)
        for answers in opened:
            answers.cancel()
        done.set()
        for requests in held:
            requests.put(None)

        def is_answered() -> bool:
            try:
                return len(list(stream(channel)(iter([request_bytes()]), timeout=5))) == 1
            except grpc.RpcError:
                return False

        wait_until(is_answered)


def test_cancelled_stream_cancels_what_it_queued(runtime: Runtime, channel: grpc.Channel) -> None:
    model = runtime.load("slow", options=echo(delay_us=200_000, max_rows=1))
    hold: queue.SimpleQueue = queue.SimpleQueue()
    answers = stream(channel)(iter(hold.get, None))
    for _ in range(5):
        hold.put(request_bytes(model="slow"))
    wait_until(lambda: model.stats().accepted == 5)
    answers.cancel()
    hold.put(None)
    wait_until(lambda: sum_of_ends(model) == 5, timeout_s=2)
    assert model.stats().cancelled >= 3
    assert_lives_on(channel)


# Drain


def test_drain_tells_health_first_answers_what_it_took_and_refuses_the_rest(
    runtime: Runtime, servers: Any
) -> None:
    model = runtime.load("slow", options=echo(delay_us=300_000))
    server = servers.start()
    (address,) = server.addresses
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        call = unary(channel, "ModelInfer")
        taken = [call.future(request_bytes(model="slow")) for _ in range(4)]
        held: queue.SimpleQueue = queue.SimpleQueue()
        answers = stream(channel)(iter(held.get, None))
        held.put(request_bytes(model="slow"))
        wait_until(lambda: model.stats().accepted == 5)
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(server.drain(10)))
        draining.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        code, message = code_of(call, request_bytes())
        assert code == grpc.StatusCode.UNAVAILABLE
        assert "draining" in message
        answer = health.Check(health_pb2.HealthCheckRequest(service="slow"))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        ready = unary(channel, "ServerReady")(b"")
        assert not protocol.response_class("ServerReady").FromString(ready).ready
        for future in taken:
            assert Response.FromString(future.result()).raw_output_contents[0] == ROWS.tobytes()
        assert next(answers).infer_response.raw_output_contents[0] == ROWS.tobytes()
        code, _ = code_of(next, answers)
        assert code == grpc.StatusCode.UNAVAILABLE
        draining.join()
        assert drained == [True]
        server.stop()
        with pytest.raises((grpc.RpcError, StopIteration)):
            next(watch)
        held.put(None)


def test_drain_says_when_the_time_was_up(runtime: Runtime, servers: Any) -> None:
    model = runtime.load("slow", options=echo(delay_us=400_000))
    server = servers.start()
    with grpc.insecure_channel(server.addresses[0]) as channel:
        future = unary(channel, "ModelInfer").future(request_bytes(model="slow"))
        wait_until(lambda: model.stats().accepted == 1)
        assert not server.drain(0.01)
        server.stop()
        assert future.code() in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
