"""The command line: what it prints, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import pyruntime
from pyruntime import Unavailable
from pyruntime.cli import main
from pyruntime.client import Client, infer_request
from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).parent / "models"
COMMAND = [sys.executable, "-P", "-m", "pyruntime.cli"]
X = np.arange(8, dtype=np.float32).reshape(2, 1, 4)


def add(repository: Path, model: str, version: str, file: str) -> None:
    folder = repository / model / version
    folder.mkdir(parents=True)
    shutil.copy(MODELS / file, folder / "model.onnx")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    add(folder, "sums", "1", "add_sub.onnx")
    add(folder, "mlp", "1", "mlp_64_256_256_10.onnx")
    add(folder, "mlp", "2", "mlp_64_256_256_10.onnx")
    (folder / "mlp" / "model.toml").write_text("[versions]\nall = true\n")
    add(folder, "words", "1", "identity_string.onnx")
    return folder


class Served:
    """`pyruntime serve` in a process of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [*COMMAND, "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.printed = ""
        self.addresses: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if found := re.match(r"listening on (\S+) \(gRPC", line):
                self.addresses.append(found[1])
            if line.startswith("Ctrl-C"):
                break

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, and give its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        out, self.errors = self.process.communicate(timeout=30)
        self.printed += out
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def serve() -> Iterator[type[Served]]:
    started: list[Served] = []

    def start(*arguments: str | Path) -> Served:
        started.append(Served(*arguments))
        return started[-1]

    yield start  # type: ignore[misc]
    for one in started:
        one.kill()


@pytest.fixture
def address(serve: type[Served], repository: Path) -> str:
    return serve(repository, "--grpc", "127.0.0.1:0").addresses[0]


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command in this process; exit status, output, errors."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as ended:  # argparse
        status = int(ended.code or 0)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


# Itself


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version", capsys=capsys)[:2] == (0, f"pyruntime {pyruntime.__version__}\n")
    status, out, _ = run("--help", capsys=capsys)
    assert status == 0
    for command in ("serve", "infer", "devices", "demo"):
        assert command in out
        status, helped, _ = run(command, "--help", capsys=capsys)
        assert status == 0
        assert helped.startswith(f"usage: pyruntime {command}")


def test_installed_command_is_this_one() -> None:
    path = Path(sys.executable).with_name("pyruntime")
    if not path.exists():
        pytest.skip("pyruntime is not installed beside this interpreter")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pyruntime {pyruntime.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: COMMAND"),
        (["serv"], "invalid choice: 'serv'"),
        (["serve"], "required: REPOSITORY"),
        (["serve", ".", "--max-rows", "0"], "--max-rows: expected at least 1, got 0"),
        (["serve", ".", "--max-rows", "many"], "--max-rows: expected a whole number, got 'many'"),
        (["serve", ".", "--drain-timeout", "-1"], "--drain-timeout: expected seconds, got '-1'"),
        (["infer", "127.0.0.1:1"], "required: MODEL"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    status, _, errors = run(*arguments, capsys=capsys)
    assert status == 2
    assert said in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "/absent"], "repository /absent: No such file or directory"),
        (["serve", ".", "--grpc", "8001"], "address '8001': expected HOST:PORT or unix:PATH"),
        (["serve", ".", "--tls-key", "key.pem"], "expected both --tls-cert and --tls-key"),
        (["serve", ".", "--onnxruntime", "/absent"], "expected the path of a library"),
        (["infer", "nowhere", "m"], "address 'nowhere': expected HOST:PORT or unix:PATH"),
        (["infer", "127.0.0.1:1", "m", "--input", "x"], "--input 'x': expected NAME=JSON"),
        (["infer", "127.0.0.1:1", "m", "--timeout", "3"], "127.0.0.1:1: "),
    ],
)
def test_mistake_ends_with_1_and_one_line(
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(repository)
    status, _, errors = run(*arguments, capsys=capsys)
    assert status == 1
    assert said in errors
    assert errors.startswith("pyruntime: error: ")
    assert errors.count("\n") == 1


# devices


def test_devices_lists_what_is_there_and_why_the_rest_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = run("devices", capsys=capsys)
    assert status == 0
    assert re.search(r"^backend +cpu +present", out, re.M)
    assert re.search(r"^engine +echo +present", out, re.M)
    status, out, _ = run("devices", "--json", capsys=capsys)
    listed = json.loads(out)
    assert {one["kind"] for one in listed} >= {"backend", "engine", "provider"}
    assert all(one["count"] or one["why_absent"] for one in listed)


# serve


def test_serve_prints_what_it_loaded_and_where_it_listens(
    serve: type[Served], repository: Path, tmp_path: Path
) -> None:
    (repository / "broken" / "abc").mkdir(parents=True)
    (repository / "broken" / "7").mkdir()
    path = tmp_path / "grpc.sock"
    served = serve(repository, "--grpc", "127.0.0.1:0", "--grpc", f"unix:{path}")
    lines = [line.split() for line in served.printed.splitlines()]
    assert ["mlp", "2", "ready"] in [line[:3] for line in lines]
    assert ["broken", "7", "failed"] in [line[:3] for line in lines]
    assert ["broken", "abc", "failed"] in [line[:3] for line in lines]
    assert served.addresses[1] == f"unix:{path}"
    for address in served.addresses:
        with Client(address) as client:
            answer = client.infer("sums", {"a": X[0], "b": X[1]}, timeout_s=10)
        np.testing.assert_array_equal(answer.outputs["sum"], X[0] + X[1])
    assert served.end() == 0
    assert not served.errors
    assert not path.exists()


def test_serve_that_loads_nothing_ends_with_1(serve: type[Served], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    served = serve(tmp_path / "empty")
    assert served.wait() == 1
    assert "found no model" in served.errors
    (tmp_path / "bad" / "m" / "1").mkdir(parents=True)
    served = serve(tmp_path / "bad")
    assert served.wait() == 1
    assert "none of 1 versions could be loaded" in served.errors
    assert "expected model.onnx in m/1, found none" in served.printed


def test_strict_serve_ends_where_one_version_fails(serve: type[Served], repository: Path) -> None:
    (repository / "broken").mkdir()
    served = serve(repository, "--strict")
    assert served.wait() == 1
    assert "1 of 5 versions could not be loaded" in served.errors


def test_port_in_use_is_named(serve: type[Served], repository: Path, address: str) -> None:
    served = serve(repository, "--grpc", address)
    assert served.wait() == 1
    assert f"cannot listen on {address}: Address already in use" in served.errors
    assert "Traceback" not in served.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_under_load_loses_no_answer_and_leaves_nothing(
    serve: type[Served], repository: Path, number: int
) -> None:
    served = serve(repository, "--grpc", "127.0.0.1:0", "--drain-timeout", "20")
    (address,) = served.addresses
    x = np.ones((4, 64), np.float32)
    request = infer_request("mlp", {"x": x}).SerializeToString()
    outcomes: list[grpc.StatusCode] = []
    stop = threading.Event()

    def call_on_and_on() -> None:
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(protocol.path("ModelInfer"))
            while not stop.is_set():
                try:
                    call(request, timeout=20)
                    outcomes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    outcomes.append(error.code())
                    return

    callers = [threading.Thread(target=call_on_and_on) for _ in range(8)]
    for caller in callers:
        caller.start()
    while len(outcomes) < 200:
        time.sleep(0.01)
    tasks = Path(f"/proc/{served.process.pid}/task").glob("*/children")
    assert not "".join(path.read_text() for path in tasks)  # no process to be left behind
    status = served.end(number)
    stop.set()
    for caller in callers:
        caller.join()
    assert status == 0, served.errors
    assert not served.errors
    # Each caller was answered until it was told to go elsewhere.
    assert set(outcomes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert outcomes.count(grpc.StatusCode.UNAVAILABLE) == len(callers)
    host, _, port = address.rpartition(":")
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((host, int(port)))


def slow_model(repository: Path, delay_us: int) -> None:
    """Add a model `slow` that takes so long, and batches nothing."""
    add(repository, "slow", "1", "identity_f32.onnx")
    (repository / "slow" / "model.toml").write_text(
        f'engine = "echo"\nconfig = {{ "echo.delay_us" = "{delay_us}" }}\n'
        'echo_inputs = [{ name = "x", dtype = "float32", shape = [-1, 4] }]\n'
        "batching.max_rows = 1\ninstances = [{ count = 8 }]\nwarm_up.rows = []\n"
    )


def test_health_says_it_first_and_who_was_accepted_is_answered(
    serve: type[Served], repository: Path
) -> None:
    slow_model(repository, delay_us=700_000)
    served = serve(repository, "--grpc", "127.0.0.1:0", "--drain-timeout", "20")
    slow, quick = (
        infer_request(name, {"x": x}).SerializeToString()
        for name, x in (("slow", np.ones((1, 4), "f4")), ("mlp", np.ones((1, 64), "f4")))
    )
    ends: list[grpc.StatusCode] = []  # of who was refused
    refused: list[object] = []  # what health then said

    def ask_until_refused() -> None:
        with grpc.insecure_channel(served.addresses[0]) as channel:
            call = channel.unary_unary(protocol.path("ModelInfer"))
            while (code := call.future(quick, timeout=25).code()) == grpc.StatusCode.OK:
                pass
            ends.append(code)
            try:
                health = health_pb2_grpc.HealthStub(channel)
                refused.append(health.Check(health_pb2.HealthCheckRequest(), timeout=25).status)
            except grpc.RpcError as error:  # the server has ended meanwhile
                refused.append(error.code())

    callers = [threading.Thread(target=ask_until_refused) for _ in range(4)]
    for caller in callers:
        caller.start()
    with grpc.insecure_channel(served.addresses[0]) as channel:
        call = channel.unary_unary(protocol.path("ModelInfer"))
        call(slow, timeout=25)  # so that it is connected
        futures = [call.future(slow, timeout=25) for _ in range(6)]
        time.sleep(1)  # until some are accepted; the others are refused
        status = served.end()
        codes = [future.code() for future in futures]
    for caller in callers:
        caller.join()
    assert status == 0, served.errors
    assert not served.errors
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert grpc.StatusCode.OK in codes
    assert ends == [grpc.StatusCode.UNAVAILABLE] * len(callers)
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    assert set(refused) <= {not_serving, grpc.StatusCode.UNAVAILABLE}
    assert not_serving in refused


def test_a_drain_ends_at_its_limit_whatever_runs(serve: type[Served], repository: Path) -> None:
    slow_model(repository, delay_us=600_000_000)
    served = serve(repository, "--grpc", "127.0.0.1:0", "--drain-timeout", "0.5")
    request = infer_request("slow", {"x": np.ones((1, 4), np.float32)}).SerializeToString()
    with grpc.insecure_channel(served.addresses[0]) as channel:
        future = channel.unary_unary(protocol.path("ModelInfer")).future(request, timeout=600)
        time.sleep(1)
        assert served.end() == 1  # within its own limit of 30 s, not the run's
        assert "requests were still under way after 0.5 s" in served.errors
        assert future.code() == grpc.StatusCode.UNAVAILABLE


def test_second_signal_ends_the_wait(serve: type[Served], repository: Path) -> None:
    served = serve(repository, "--grpc", "127.0.0.1:0", "--drain-timeout", "1000")
    with grpc.insecure_channel(served.addresses[0]) as channel:
        # A client that has sent half a request holds up the drain.
        started, finished = threading.Event(), threading.Event()

        def half() -> Iterator[bytes]:
            started.set()
            finished.wait()
            yield b""

        future = channel.stream_unary(protocol.path("ModelInfer")).future(half())
        started.wait()
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert served.process.poll() is None
        assert served.end() == 130
        finished.set()
        future.cancel()


# infer


def test_infer_prints_metadata(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("infer", address, "mlp", "--metadata", capsys=capsys)
    assert status == 0
    assert out.splitlines()[0] == "mlp, versions 1, 2, onnxruntime_onnx"
    assert re.search(r"^input +x +FP32 +\[\*, 64\]$", out, re.M)
    status, out, _ = run("infer", address, "mlp", "--metadata", "--json", capsys=capsys)
    assert json.loads(out)["versions"] == ["1", "2"]


def test_infer_takes_json_and_prints_either_way(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ("--input", "a=[[1, 2.5, 3, 4]]", "--input", "b=[[10, 20, 30, 40]]")
    status, out, _ = run("infer", address, "sums", *inputs, capsys=capsys)
    assert status == 0
    assert re.search(r"^sum: FP32\[1, 4\]\n  \[\[11\.  22\.5 33\.  44\. \]\]$", out, re.M)
    arguments = (*inputs, "--json", "--output", "difference")
    status, out, _ = run("infer", address, "sums", *arguments, capsys=capsys)
    assert json.loads(out) == {
        "model_name": "sums",
        "model_version": "1",
        "outputs": [
            {
                "name": "difference",
                "datatype": "FP32",
                "shape": [1, 4],
                "data": [-9.0, -17.5, -27.0, -36.0],
            }
        ],
    }


def test_infer_takes_files_and_strings(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", X[0])
    np.savez(tmp_path / "both.npz", a=X[0], b=X[1])
    arguments = ("--input", f"a=@{tmp_path}/a.npy", "--input", f"b=@{tmp_path}/both.npz")
    status, out, _ = run("infer", address, "sums", *arguments, "--json", capsys=capsys)
    assert status == 0
    assert json.loads(out)["outputs"][0]["data"] == (X[0] + X[1]).ravel().tolist()
    words = ("--input", 'x=[["one", "zwei \u00fc", "", "4"]]', "--json")
    status, out, _ = run("infer", address, "words", *words, capsys=capsys)
    assert json.loads(out)["outputs"][0]["data"] == ["one", "zwei \u00fc", "", "4"]


def test_infer_fills_inputs_at_random_and_the_same_each_time(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--random", "--rows", "3", "--json", "--version", "2")
    status, first, _ = run("infer", address, "mlp", *arguments, capsys=capsys)
    assert status == 0
    assert json.loads(first)["outputs"][0]["shape"] == [3, 10]
    assert json.loads(first)["model_version"] == "2"
    assert run("infer", address, "mlp", *arguments, capsys=capsys)[1] == first
    other = run("infer", address, "mlp", *arguments, "--seed", "1", capsys=capsys)[1]
    assert other != first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "--random"], "NOT_FOUND"),
        (["mlp", "--random", "--version", "9"], "NOT_FOUND"),
        (["sums", "--input", "a=[1]"], "input 'b': expected FP32[*, 4], got nothing"),
        (["sums", "--input", "c=[1]"], "expected one of 'a', 'b', got 'c'"),
        (["sums", "--input", "a=[1", "--random"], "--input a: expected JSON or @FILE"),
        (["sums", "--input", 'a=["x"]', "--random"], "--input a: expected FP32"),
        (["sums", "--input", "a=@/absent.npy", "--random"], "/absent.npy: No such file"),
        (["sums", "--input", "a=[[1]]", "--input", "b=[[1]]"], "INVALID_ARGUMENT"),
    ],
)
def test_infer_says_what_does_not_fit(
    address: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    status, _, errors = run("infer", address, *arguments, capsys=capsys)
    assert status == 1
    assert said in errors
    assert errors.count("\n") == 1


def test_client_says_which_server_does_not_answer() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(Unavailable, match=r"^127\.0\.0\.1:1: "):
        client.infer("m", {"x": X}, timeout_s=5)
