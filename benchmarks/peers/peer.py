"""The servers that are compared, and how each is installed and started."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVERS = Path(__file__).parent / "servers"
ENVIRONMENTS = ROOT / "build" / "peers"

# The command for a model's file, its name and three free ports; it may write into the folder.
Command = Callable[["Start"], list[str]]


@dataclass(frozen=True)
class Start:
    """What a peer is told. ports: the first is where requests go."""

    folder: Path
    python: Path
    model: Path
    name: str
    ports: tuple[int, int, int]


@dataclass(frozen=True)
class Peer:
    """A server.

    protocol: "grpc" of the Open Inference Protocol, or "rest" for JSON of its own.
    packages: for pip, in an environment of its own; none: this one.
    path: of requests, where the protocol is REST.
    """

    name: str
    protocol: str
    packages: tuple[str, ...]
    command: Command
    path: str = "/predict"

    @property
    def python(self) -> Path:
        if not self.packages:
            return Path(sys.executable)
        return ENVIRONMENTS / self.name / "bin" / "python"

    @property
    def distributions(self) -> tuple[str, ...]:
        """The packages without their extras."""
        return tuple(re.split(r"[\[<]", name)[0] for name in self.packages)

    @property
    def is_installed(self) -> bool:
        return self.python.exists()

    def environment(self, start: Start) -> Mapping[str, str]:
        """Beside what this process has."""
        return {
            "PEERS_MODEL": str(start.model),
            "PEERS_NAME": start.name,
            "PEERS_PORT": str(start.ports[0]),
            "PEERS_HTTP_PORT": str(start.ports[1]),
            "PYTHONPATH": str(SERVERS),
            # None shall report to its makers while it is measured.
            "ORT_DISABLE_TELEMETRY": "1",
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
            "DO_NOT_TRACK": "1",
        }


def _pyruntime(start: Start) -> list[str]:
    version = start.folder / "repository" / start.name / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(start.model.read_bytes())
    address = f"127.0.0.1:{start.ports[0]}"
    repository = str(start.folder / "repository")
    command = [str(start.python), "-P", "-m", "pyruntime", "serve", repository]
    return [*command, "--grpc", address]


def _mlserver(start: Start) -> list[str]:
    settings = {
        "host": "127.0.0.1",
        "grpc_port": start.ports[0],
        "http_port": start.ports[1],
        "metrics_port": start.ports[2],
    }
    (start.folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": start.name, "implementation": "mlserver_model.OnnxModel"}
    (start.folder / "model-settings.json").write_text(json.dumps(model))
    return [str(start.python.parent / "mlserver"), "start", str(start.folder)]


def _litserve(start: Start) -> list[str]:
    return [str(start.python), str(SERVERS / "litserve_server.py")]


def _bentoml(start: Start) -> list[str]:
    command = [str(start.python.parent / "bentoml"), "serve", "bentoml_service:OnnxService"]
    return [*command, "--host", "127.0.0.1", "--port", str(start.ports[0])]


def _kserve(start: Start) -> list[str]:
    return [str(start.python), str(SERVERS / "kserve_server.py")]


def _ray_serve(start: Start) -> list[str]:
    return [str(start.python), str(SERVERS / "ray_serve_app.py")]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pyruntime", "grpc", (), _pyruntime),
        # Its workers end at once with the uvloop that pip would choose.
        Peer("mlserver", "grpc", ("mlserver", "uvloop<0.22", "onnxruntime", "numpy"), _mlserver),
        Peer("kserve", "grpc", ("kserve", "onnxruntime", "numpy"), _kserve),
        Peer("bentoml", "rest", ("bentoml", "onnxruntime", "numpy"), _bentoml),
        Peer("litserve", "rest", ("litserve", "onnxruntime", "numpy"), _litserve),
        Peer("ray", "rest", ("ray[serve]", "onnxruntime", "numpy"), _ray_serve),
    )
}
