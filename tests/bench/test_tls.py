"""Load over gRPC with TLS, and with the protocol's typed lists."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pems_for_tests import make_pems

from pyruntime import _probe
from pyruntime.bench import run
from pyruntime.bench.load.over_tls import NOTE, OverTls, _Load
from pyruntime.bench.request_bytes import request_bytes
from pyruntime.bench.sending import poisson_times
from pyruntime.client import Client
from pyruntime.errors import InvalidInput, Unavailable
from pyruntime.frontends import protocol
from pyruntime.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("onnxruntime")
pytest.importorskip("psutil")

MLP = Path(__file__).parents[1] / "models" / "mlp_64_256_256_10.onnx"
SHORT = {"seconds": 0.3, "repetition_s": 0.05}
INPUTS = {"x": np.ones((1, 64), np.float32)}


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pems(tmp_path_factory.mktemp("pems"))


@pytest.fixture(scope="module")
def server(pems: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a `pyruntime serve` that asks clients for certificates."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / MLP.stem / "1").mkdir(parents=True)
    shutil.copy(MLP, folder / MLP.stem / "1" / "model.onnx")
    command = [sys.executable, "-P", "-m", "pyruntime", "serve", str(folder)]
    command += ["--grpc", "127.0.0.1:0", "--tls-cert", str(pems / "server.pem")]
    command += ["--tls-key", str(pems / "server.key"), "--tls-client-ca", str(pems / "ca.pem")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "listening on " in line:
                yield line.split("listening on ")[1].split()[0]
                break
        process.terminate()


def files(pems: Path, name: str = "client", authority: str = "ca") -> dict[str, Path]:
    return {
        "tls_ca": pems / f"{authority}.pem",
        "tls_cert": pems / f"{name}.pem",
        "tls_key": pems / f"{name}.key",
    }


# TLS


def test_a_server_with_mutual_tls_is_measured_and_the_result_says_by_what(
    server: str, pems: Path
) -> None:
    results = run(
        MLP.stem, target=f"grpcs://{server}", concurrency=(1, 4), rates=(50.0,),
        scenarios=("closed", "open"), connections=2, **files(pems), **SHORT,
    )  # fmt: skip
    assert len(results.measurements) == 3, results.skipped
    for one in results.measurements:
        assert NOTE in one.warnings
        assert one.figures["errors_share"] == 0
        assert one.figures["batch_rows_mean"] >= 1
        assert one.generator_share is not None
        assert one.generator_share > 0
        for each in one.repetitions:
            assert each.latency.count == each.requests
            assert (each.service is None) == (one.configuration.scenario == "closed")


def test_whom_the_authority_does_not_know_is_refused(server: str, pems: Path) -> None:
    with pytest.raises(Unavailable, match=server):
        run(MLP.stem, target=f"grpcs://{server}", **files(pems, "client", "other"), **SHORT)
    with pytest.raises(Unavailable, match=f"where it speaks TLS: grpcs://{server}"):
        run(MLP.stem, target=f"grpc://{server}", **SHORT)


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("grpc://h:1", {"tls_ca": "ca.pem"}, "tls_ca: expected a target grpcs://HOST:PORT"),
        ("grpcs://h:1", {"tls_ca": "/nowhere"}, "tls_ca: /nowhere: no such file"),
        ("grpcs://h:1", {"tls_cert": __file__}, "tls_cert and tls_key: expected both or none"),
        ("grpcs://h:1", {"client_threads": 2}, "client_threads: expected 1 for grpcs://"),
        ("grpcs://unix:/a", {}, "target: expected inproc, grpc://HOST:PORT, grpcs://HOST:PORT"),
        ("https://h:1", {}, "target: expected inproc, grpc://HOST:PORT, grpcs://HOST:PORT"),
    ],
)
def test_mistakes_are_named(target: str, options: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        run("m", target=target, **options)


# The load itself, on a server with known delays


def test_known_delays_are_seen_as_they_are() -> None:
    delays_ns = np.full(64, 20_000_000)
    responder = _probe.GrpcResponder(b"", delays_ns, 0, 0, 0, 0)
    with Client(responder.address) as client:
        try:
            load = _Load([client], b"", 5.0)
            closed = load.closed(4, 0.3)
            arrivals = load.open(poisson_times(100.0, 0.3, 1), 0.3)
        finally:
            responder.close()
    for seen in (closed, arrivals):
        assert seen.errors == {}
        assert seen.ended == ""
        assert seen.latency.count == seen.requests > 0
        assert seen.latency.min_us >= 20_000
    assert closed.requests >= 4
    assert arrivals.lag is not None
    assert arrivals.lag.count == arrivals.requests


def test_a_stall_is_charged_to_all_that_arrive_in_it() -> None:
    # It does nothing for the first 0.2 s of every second.
    responder = _probe.GrpcResponder(b"", np.empty(0, np.int64), 0.2, 1.0, 0, 0)
    with Client(responder.address) as client:
        try:
            seen = _Load([client], b"", 5.0).open(np.arange(0, 10**9, 10**7), 1.0)
        finally:
            responder.close()
    # Of 100 arrivals 20 come in the stall, spread over it.
    slow = sum(n for i, n in seen.latency.counts.items() if _us(i) > 20_000)
    assert slow >= 10


def _us(index: int) -> float:
    from pyruntime.bench.histogram import bucket_us

    return float(bucket_us(index)[0])


def test_a_server_that_is_gone_ends_the_load_and_refuses_nobody() -> None:
    responder = _probe.GrpcResponder(b"", np.empty(0, np.int64), 0, 0, 0, 0)
    with Client(responder.address) as client:
        load = _Load([client], b"", 5.0)
        assert load.closed(2, 0.05).requests > 0
        responder.close()
        seen = load.closed(2, 60.0)
        assert seen.ended.startswith("the server is gone: ")
        assert seen.requests == 0
        assert seen.errors == {}
        arrivals = load.open(np.arange(0, 60 * 10**9, 10**6), 60.0)
        assert arrivals.ended.startswith("the server is gone: ")


def test_a_server_that_does_not_answer_ends_the_load() -> None:
    responder = _probe.GrpcResponder(b"", np.full(1, 10**10), 0, 0, 0, 0)
    with Client(responder.address) as client:
        try:
            seen = _Load([client], b"", 0.2).closed(1, 60.0)
        finally:
            responder.close()
    assert seen.ended == "no answer for 0.2 s"
    assert seen.requests == 0


def test_the_limit_shrinks_by_what_encryption_costs() -> None:
    responder = _probe.GrpcResponder(b"", np.empty(0, np.int64), 0, 0, 0, 0)
    target = OverTls(responder.address, "m", b"", [Client(responder.address)], 5.0)
    try:
        assert target.limit(is_open=False, in_flight=1) is None  # nothing is known yet
        target.closed(32, 0.1)
        limit = target.limit(is_open=False, in_flight=32)
        target._cpu_s *= 4
        dearer = target.limit(is_open=False, in_flight=32)
    finally:
        target.close()
        responder.close()
    assert limit is not None
    assert dearer is not None
    assert 0 < dearer <= limit / 1.5


# Typed contents


def test_values_travel_in_typed_lists_if_asked_for() -> None:
    specs = [
        TensorSpec("x", "float32", (-1, 2)),
        TensorSpec("n", "int64", (-1,)),
        TensorSpec("t", "string", (-1,)),
    ]
    arrays = {
        "x": np.array([[1.5, 2.5]], np.float32),
        "n": np.array([7]),
        "t": np.array(["hello"], object),
    }
    data = request_bytes("m", "", specs, arrays, is_typed=True)
    request = protocol.message_class("ModelInferRequest").FromString(data)
    assert not request.raw_input_contents
    x, n, t = (tensor.contents for tensor in request.inputs)
    assert list(x.fp32_contents) == [1.5, 2.5]
    assert list(n.int64_contents) == [7]
    assert list(t.bytes_contents) == [b"hello"]
    half = [TensorSpec("h", "float16", (-1,))]
    with pytest.raises(InvalidInput, match="input 'h': the protocol has no typed list for FP16"):
        request_bytes("m", "", half, {"h": np.ones(1, np.float16)}, is_typed=True)


def test_a_server_is_measured_with_typed_lists_too(server: str, pems: Path) -> None:
    target = f"grpcs://{server}"
    (one,) = run(MLP.stem, target=target, typed_contents=True, **files(pems), **SHORT).measurements
    assert one.figures["errors_share"] == 0


def test_another_name_of_the_service_is_what_is_called(server: str, pems: Path) -> None:
    target = f"grpcs://{server}"
    results = run(MLP.stem, target=target, service="other.Service", inputs=INPUTS, **files(pems))
    assert "UNIMPLEMENTED" in results.skipped[0].reason
