"""TLS and mutual TLS from PEM files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_calling import ROWS
from pems_for_tests import make_pems

from pyruntime import InvalidInput, PyRuntimeError, Unavailable
from pyruntime.cli import main
from pyruntime.client import Client, ClientTls
from pyruntime.frontends import TlsFiles


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pems(tmp_path_factory.mktemp("pems"))


def infer(address: str, tls: ClientTls | None) -> None:
    with Client(address, tls=tls) as client:
        answer = client.infer("echo", {"x": ROWS}, timeout_s=10)
    assert (answer.outputs["output_0"] == ROWS).all()


def test_tls_client_that_knows_the_authority_is_served(servers: Any, pems: Path) -> None:
    tls = TlsFiles(pems / "server.pem", pems / "server.key")
    (address,) = servers.start(tls=tls).addresses
    infer(address, ClientTls(ca=pems / "ca.pem"))
    with pytest.raises(Unavailable):
        infer(address, ClientTls(ca=pems / "other.pem"))
    with pytest.raises(Unavailable):
        infer(address, None)


def test_mutual_tls_serves_only_clients_that_the_authority_signed(
    servers: Any, pems: Path, tmp_path: Path
) -> None:
    tls = TlsFiles(pems / "server.pem", pems / "server.key", pems / "ca.pem")
    socket = f"unix:{tmp_path / 'grpc.sock'}"
    address, _ = servers.start("127.0.0.1:0", socket, tls=tls).addresses
    infer(address, ClientTls(pems / "ca.pem", pems / "client.pem", pems / "client.key"))
    with pytest.raises(Unavailable):
        infer(address, ClientTls(pems / "ca.pem"))
    with pytest.raises(Unavailable):
        infer(address, ClientTls(pems / "ca.pem", pems / "stranger.pem", pems / "stranger.key"))
    infer(socket, None)  # a Unix socket is guarded by its file's permissions


def test_a_management_port_serves_only_clients_that_its_authority_signed(
    pems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "models" / "identity_f32.onnx", folder / "model.onnx")
    command = [sys.executable, "-P", "-m", "pyruntime.cli", "serve", str(tmp_path)]
    options = [
        *("--grpc", "127.0.0.1:0", "--management", "127.0.0.1:0"),
        *("--tls-cert", str(pems / "server.pem"), "--tls-key", str(pems / "server.key")),
        *("--management-tls-client-ca", str(pems / "ca.pem")),
    ]
    addresses = {}
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.match(r"listening on (\S+) \((\w+), TLS\)", line):
                    addresses[found[2]] = found[1]
                if line.startswith("Ctrl-C"):
                    break

            def models(call: str, *arguments: str, name: str | None) -> int:
                files = ("--tls-cert", f"{pems}/{name}.pem", "--tls-key", f"{pems}/{name}.key")
                where = ("--server", addresses["management"], "--tls-ca", f"{pems}/ca.pem")
                return main(["models", call, *arguments, *where, *(files if name else ())])

            assert models("list", name="client") == 0
            assert "READY" in capsys.readouterr().out.upper()
            for stranger in ("stranger", None):
                assert models("unload", "m", "--timeout", "5", name=stranger) == 1
                assert "UNAVAILABLE" in capsys.readouterr().err.upper()
            # Inferences need no certificate, and cannot manage.
            with Client(addresses["gRPC"], tls=ClientTls(ca=pems / "ca.pem")) as client:
                assert client.infer("m", {"x": np.ones((1, 16), np.float32)}, timeout_s=20)
                with pytest.raises(PyRuntimeError, match="taken at another address"):
                    client.unload("m")
            assert models("unload", "m", name="client") == 0
        finally:
            server.terminate()


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "named"),
    [
        ("absent.pem", "server.key", None, "absent.pem"),
        ("server.pem", "client.key", None, "client.key"),
        ("names", "server.key", None, "names"),
        ("server.pem", "server.key", "names", "names"),
    ],
)
def test_file_that_does_not_fit_is_named(
    servers: Any, pems: Path, certificate: str, key: str, client_ca: str | None, named: str
) -> None:
    tls = TlsFiles(pems / certificate, pems / key, pems / client_ca if client_ca else None)
    with pytest.raises(InvalidInput, match=named):
        servers.start(tls=tls)
