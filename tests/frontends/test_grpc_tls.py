"""TLS and mutual TLS from PEM files."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from grpc_calling import ROWS

from pyruntime import InvalidInput, Unavailable
from pyruntime.client import Client, ClientTls
from pyruntime.frontends import TlsFiles

if TYPE_CHECKING:
    from pathlib import Path


def openssl(*arguments: str, cwd: Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two authorities; the first signed `server` and `client`, the second `stranger`."""
    folder = tmp_path_factory.mktemp("pems")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(
            *("req", "-x509", *key, *files, "-days", "2", "-subj", f"/CN={name} authority"),
            cwd=folder,
        )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("req", *key, *files, "-subj", f"/CN={name}", cwd=folder)
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem"),
            *("-days", "2", "-extfile", "names"),
            cwd=folder,
        )
    return folder


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
