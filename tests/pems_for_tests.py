"""Certificates and keys, made by openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def make_pems(folder: Path) -> Path:
    """Make two authorities; the first signed `server` and `client`, the second `stranger`."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        _openssl(
            *("req", "-x509", *key, *files, "-days", "2", "-subj", f"/CN={name} authority"),
            cwd=folder,
        )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        _openssl("req", *key, *files, "-subj", f"/CN={name}", cwd=folder)
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
        _openssl(
            *("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem"),
            *("-days", "2", "-extfile", "names"),
            cwd=folder,
        )
    return folder


def _openssl(*arguments: str, cwd: Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
