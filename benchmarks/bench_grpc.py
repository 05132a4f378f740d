"""Calls of one row over gRPC to a server in a process of its own, one and 32 at once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest

from pyruntime.client import infer_request
from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT_ONCE = 32


@pytest.fixture(scope="module")
def addresses(bench_model, tmp_path_factory) -> Iterator[dict[str, str]]:
    """Addresses of `pyruntime serve`, by kind of socket."""
    folder: Path = tmp_path_factory.mktemp("served")
    version = folder / "repository" / bench_model.name / "1"
    version.mkdir(parents=True)
    shutil.copy(bench_model.path, version / "model.onnx")
    unix = f"unix:{folder / 'socket'}"
    command = [sys.executable, "-P", "-m", "pyruntime.cli", "serve", str(folder / "repository")]
    command += ["--grpc", "127.0.0.1:0", "--grpc", unix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found: list[str] = []
        for line in process.stdout:
            found += re.findall(r"listening on (\S+)", line)
            if len(found) == 2:
                break
        yield dict(zip(("TCP", "unix"), found, strict=True))
        process.terminate()


@pytest.mark.parametrize("at_once", [1, AT_ONCE])
@pytest.mark.parametrize("socket", ["TCP", "unix"])
def test_grpc(side_by_side, bench_model, addresses, socket, at_once) -> None:
    # Bytes to bytes: what a client does with NumPy is its own affair.
    request = infer_request(bench_model.name, bench_model.row).SerializeToString()
    with grpc.insecure_channel(addresses[socket]) as channel:
        infer = channel.unary_unary(protocol.path("ModelInfer"))

        def burst() -> None:
            for future in [infer.future(request) for _ in range(at_once)]:
                future.result()

        call = burst if at_once > 1 else lambda: infer(request)
        side_by_side.measure(f"gRPC {socket} x{at_once}", call, requests=at_once)
