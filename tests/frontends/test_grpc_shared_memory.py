"""Memory that clients share, by Triton's own client: of the system, and of a GPU."""

from __future__ import annotations

import base64
import ctypes
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_calling import ROWS, code_of

from pyruntime.frontends import protocol
from pyruntime.frontends.grpc_shared_memory import is_local

triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
utils = pytest.importorskip("tritonclient.utils", reason="tritonclient is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent.parent
SOURCES = sorted((TESTS / "fake_cuda").glob("*.cc"))


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture
def piece() -> Iterator[shared_memory.SharedMemory]:
    piece = shared_memory.SharedMemory(create=True, size=4096)
    yield piece
    piece.close()
    piece.unlink()


def shared_input(region: str, size: int, offset: int = 0) -> triton.InferInput:
    given = triton.InferInput("x", ROWS.shape, "FP32")
    given.set_shared_memory(region, size, offset)
    return given


def shared_output(region: str, size: int, offset: int = 0) -> triton.InferRequestedOutput:
    wanted = triton.InferRequestedOutput("output_0")
    wanted.set_shared_memory(region, size, offset)
    return wanted


def refusal(call: object, *arguments: object) -> str:
    with pytest.raises(utils.InferenceServerException) as caught:
        call(*arguments)  # type: ignore[operator]
    return str(caught.value)


def test_tensors_lie_in_a_region_of_the_system(client, piece) -> None:
    size = ROWS.nbytes
    piece.buf[:size] = ROWS.tobytes()
    client.register_system_shared_memory("in", piece.name, size)
    client.register_system_shared_memory("out", piece.name, 1024, 2048)
    status = client.get_system_shared_memory_status(as_json=True)["regions"]
    assert status["out"]["byte_size"] == "1024"
    assert status["out"]["offset"] == "2048"
    assert status["out"]["key"] == piece.name
    assert list(client.get_system_shared_memory_status("in").regions) == ["in"]

    result = client.infer("echo", [shared_input("in", size)], outputs=[shared_output("out", 64, 8)])
    output = result.get_output("output_0")
    assert output.parameters["shared_memory_region"].string_param == "out"
    assert output.parameters["shared_memory_byte_size"].int64_param == size
    assert list(output.shape) == [2, 4]
    assert bytes(piece.buf[2056 : 2056 + size]) == ROWS.tobytes()

    result = client.infer("echo", [shared_input("in", size)])
    np.testing.assert_array_equal(result.as_numpy("output_0"), ROWS)

    client.unregister_system_shared_memory("in")
    assert list(client.get_system_shared_memory_status().regions) == ["out"]
    client.unregister_system_shared_memory()
    assert not client.get_system_shared_memory_status().regions


def test_streams_take_them_too(client, piece) -> None:
    piece.buf[: ROWS.nbytes] = ROWS.tobytes()
    client.register_system_shared_memory("r", piece.name, 4096)
    answers: list[object] = []
    client.start_stream(lambda result, error: answers.append(error or result))
    client.async_stream_infer(
        "echo", [shared_input("r", ROWS.nbytes)], outputs=[shared_output("r", 64, 1024)]
    )
    client.stop_stream()
    assert len(answers) == 1
    assert not isinstance(answers[0], Exception)
    assert bytes(piece.buf[1024 : 1024 + ROWS.nbytes]) == ROWS.tobytes()


def test_refusals_are_those_that_clients_of_triton_know(client, piece) -> None:
    client.register_system_shared_memory("r", piece.name, 64)
    size = ROWS.nbytes
    again = refusal(client.register_system_shared_memory, "r", piece.name, 64)
    assert again == ("[StatusCode.ALREADY_EXISTS] shared memory region 'r' already in manager")
    assert "[StatusCode.INVALID_ARGUMENT] Unable to open shared memory region: 'none'" in refusal(
        client.register_system_shared_memory, "s", "none", 64
    )
    assert "failed to register shared memory region 's'" in refusal(
        client.register_system_shared_memory, "s", piece.name, 4097
    )
    assert refusal(client.get_system_shared_memory_status, "s") == (
        "[StatusCode.NOT_FOUND] Unable to find system shared memory region: 's'"
    )
    assert "is registered as system shared memory" in refusal(
        client.get_cuda_shared_memory_status, "r"
    )
    assert "[StatusCode.NOT_FOUND] input 'x': Unable to find shared memory region: 's'" in refusal(
        client.infer, "echo", [shared_input("s", size)]
    )
    assert "Invalid offset + byte size for shared memory region: 'r'" in refusal(
        client.infer, "echo", [shared_input("r", size, 40)]
    )
    assert "(16 bytes) should be at least 32 bytes to hold the results" in refusal(
        lambda: client.infer("echo", [shared_input("r", size)], outputs=[shared_output("r", 16)])
    )
    client.unregister_system_shared_memory("s")  # which there is not: as with Triton
    client.unregister_cuda_shared_memory("r")  # not of that kind
    assert list(client.get_system_shared_memory_status().regions) == ["r"]


def test_who_is_not_on_this_machine_is_refused() -> None:
    assert is_local("unix:/tmp/socket")
    assert is_local("ipv4:127.0.0.1:50610")
    assert is_local("ipv6:%5B::1%5D:50610")
    assert is_local("ipv6:[::1]:50610")
    assert not is_local("ipv4:10.0.0.7:50610")
    assert not is_local("ipv6:%5Bfe80::1%5D:50610")


def test_a_register_call_from_elsewhere_is_refused(channel, monkeypatch) -> None:
    monkeypatch.setattr(
        "pyruntime.frontends.grpc_shared_memory.is_local", lambda peer: not peer.startswith("ipv4")
    )
    for name in ("SystemSharedMemoryRegister", "CudaSharedMemoryStatus"):
        code, message = code_of(channel.unary_unary(protocol.path(name)), b"")
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert "expected a client on this machine" in message


def test_the_server_says_that_it_knows_shared_memory(client) -> None:
    extensions = client.get_server_metadata().extensions
    assert "system_shared_memory" in extensions
    assert "cuda_shared_memory" not in extensions  # there is no GPU here


def test_without_a_gpu_its_regions_are_refused_with_the_reason(client) -> None:
    text = refusal(client.register_cuda_shared_memory, "g", base64.b64encode(bytes(64)), 0, 64)
    assert "[StatusCode.UNAVAILABLE] device 'cuda:0'" in text
    client.unregister_cuda_shared_memory()
    assert not client.get_cuda_shared_memory_status().regions


# --- a server on the fake CUDA driver; the client is another process, which is this one


SERVER = """
import sys
import pyruntime
from pyruntime.frontends import FrontEndOptions, front_end

runtime = pyruntime.Runtime()
runtime.load("echo", options=pyruntime.ModelOptions(
    engine="echo", echo_inputs=(pyruntime.TensorSpec("x", "float32", (-1, 4)),),
    instances=(pyruntime.InstanceGroup("cuda:0", 1),)))
server = front_end("grpc")(runtime, FrontEndOptions(addresses=("127.0.0.1:0",)))
server.start()
print(server.addresses[0], flush=True)
sys.stdin.read()
server.stop()
runtime.close()
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    flags = ["-std=c++20", "-O0", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
    subprocess.run(
        [os.environ.get("CXX", "g++"), *flags, *map(str, SOURCES), "-o", str(library)], check=True
    )
    return library


@contextmanager
def server_on_gpu(driver: Path) -> Iterator[str]:
    environment = os.environ | {"PYRUNTIME_CUDA_DRIVER": str(driver)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        _, errors = process.communicate("", timeout=30)
        assert process.returncode == 0, errors
        assert errors == ""


class Gpu:
    """A client's memory on the fake GPU."""

    def __init__(self, driver: Path, size: int) -> None:
        self._cuda = ctypes.CDLL(str(driver))
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self._call("cuCtxSetCurrent", context)
        self._address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(self._address), ctypes.c_size_t(size))

    def _call(self, name: str, *arguments: object) -> None:
        assert getattr(self._cuda, name)(*arguments) == 0, name

    @property
    def handle(self) -> bytes:
        handle = ctypes.create_string_buffer(64)
        self._call("cuIpcGetMemHandle", handle, self._address)
        return handle.raw

    def write(self, at: int, data: bytes) -> None:
        to = ctypes.c_uint64(self._address.value + at)
        self._call("cuMemcpyHtoDAsync_v2", to, data, ctypes.c_size_t(len(data)), None)
        self._call("cuStreamSynchronize", None)

    def read(self, at: int, size: int) -> bytes:
        data = ctypes.create_string_buffer(size)
        begin = ctypes.c_uint64(self._address.value + at)
        self._call("cuMemcpyDtoHAsync_v2", data, begin, ctypes.c_size_t(size), None)
        self._call("cuStreamSynchronize", None)
        return data.raw


def test_tensors_lie_in_a_region_of_a_gpu(driver: Path) -> None:
    size = ROWS.nbytes
    gpu = Gpu(driver, 4096)
    gpu.write(64, ROWS.tobytes())
    with server_on_gpu(driver) as address, triton.InferenceServerClient(address) as client:
        assert "cuda_shared_memory" in client.get_server_metadata().extensions
        client.register_cuda_shared_memory("g", base64.b64encode(gpu.handle), 0, 4096)
        status = client.get_cuda_shared_memory_status(as_json=True)["regions"]
        assert status["g"]["byte_size"] == "4096"
        assert list(client.get_cuda_shared_memory_status("g").regions) == ["g"]

        result = client.infer(
            "echo", [shared_input("g", size, 64)], outputs=[shared_output("g", 64, 2048)]
        )
        output = result.get_output("output_0")
        assert output.parameters["shared_memory_region"].string_param == "g"
        assert gpu.read(2048, size) == ROWS.tobytes()

        # In by the message and out by the region, and the other way round.
        given = triton.InferInput("x", ROWS.shape, "FP32")
        given.set_data_from_numpy(ROWS + 1)
        client.infer("echo", [given], outputs=[shared_output("g", 64, 3072)])
        assert gpu.read(3072, size) == (ROWS + 1).tobytes()
        result = client.infer("echo", [shared_input("g", size, 64)])
        np.testing.assert_array_equal(result.as_numpy("output_0"), ROWS)

        again = refusal(
            client.register_cuda_shared_memory, "g", base64.b64encode(gpu.handle), 0, 4096
        )
        assert "[StatusCode.ALREADY_EXISTS] shared memory region 'g' already in manager" in again
        for arguments, expected in (
            ((gpu.handle, 0, 4097), "expected at most the 4096 bytes of the handle"),
            ((gpu.handle[:63], 0, 64), "expected a cudaIpcMemHandle_t of 64 bytes, got 63"),
            ((bytes(64), 0, 64), "failed to register shared memory region 'h': invalid args"),
            ((gpu.handle, 9, 64), "expected an index below 2"),
            ((gpu.handle, -1, 64), "device_id: expected an index of a GPU, got -1"),
        ):
            handle, device, byte_size = arguments
            text = refusal(
                client.register_cuda_shared_memory,
                *("h", base64.b64encode(handle), device, byte_size),
            )
            assert expected in text
        client.register_cuda_shared_memory("other", base64.b64encode(gpu.handle), 1, 64)
        assert "expected memory on 'cpu' or 'cuda:0', got 'cuda:1'" in refusal(
            client.infer, "echo", [shared_input("other", size)]
        )
        assert "Invalid offset + byte size" in refusal(
            client.infer, "echo", [shared_input("g", size, 4080)]
        )
        client.unregister_cuda_shared_memory("g")
        assert "Unable to find shared memory region: 'g'" in refusal(
            client.infer, "echo", [shared_input("g", size)]
        )
        client.unregister_cuda_shared_memory()
        assert not client.get_cuda_shared_memory_status().regions


def test_a_region_of_a_gpu_may_go_while_requests_use_it(driver: Path) -> None:
    size = ROWS.nbytes
    gpu = Gpu(driver, 4096)
    gpu.write(0, ROWS.tobytes())
    handle = base64.b64encode(gpu.handle)
    with server_on_gpu(driver) as address, triton.InferenceServerClient(address) as client:
        served = refused = 0
        for _ in range(10):
            client.register_cuda_shared_memory("g", handle, 0, 4096)
            results: list[object] = []

            def note(result: object, error: object, to: list[object] = results) -> None:
                to.append(error or result)

            calls = [
                client.async_infer(
                    "echo",
                    [shared_input("g", size)],
                    callback=note,
                    outputs=[shared_output("g", 64, 2048)],
                )
                for _ in range(20)
            ]
            client.unregister_cuda_shared_memory("g")
            while len(results) < len(calls):
                time.sleep(0.001)
            for result in results:
                if isinstance(result, Exception):
                    assert "Unable to find shared memory region" in str(result)
                    refused += 1
                else:
                    served += 1
        assert served + refused == 200
    assert gpu.read(0, size) == ROWS.tobytes()
