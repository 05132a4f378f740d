"""The servers that are compared, and how each is installed and started."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
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
    programs: that it takes beside its packages.
    has_typed_contents: it reads the protocol's typed lists and no raw bytes.
    service: what it calls the protocol's service.
    """

    name: str
    protocol: str
    packages: tuple[str, ...]
    command: Command
    path: str = "/predict"
    programs: tuple[str, ...] = ()
    has_typed_contents: bool = False
    service: str = "inference.GRPCInferenceService"

    @property
    def python(self) -> Path:
        if not self.packages:
            return Path(sys.executable)
        return ENVIRONMENTS / self.name / "bin" / "python"

    @property
    def distributions(self) -> tuple[str, ...]:
        """The packages without their extras."""
        return tuple(re.split(r"[\[<=]", name)[0] for name in self.packages)

    @property
    def missing(self) -> str:
        """What keeps it from being measured; empty: nothing."""
        if absent := [name for name in self.programs if shutil.which(name) is None]:
            return f"it takes {', '.join(absent)}, which is not installed"
        if not self.python.exists():
            return f"not installed (benchmarks/peers/install {self.name})"
        return ""

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


def _torchserve(start: Start) -> list[str]:
    bin_ = start.python.parent
    store = start.folder / "store"
    store.mkdir()
    archive = [bin_ / "torch-model-archiver", "--model-name", start.name, "--version", "1.0"]
    archive += ["--serialized-file", start.model, "--export-path", store]
    archive += ["--handler", SERVERS / "torchserve_handler.py"]
    subprocess.run(archive, check=True, capture_output=True, cwd=start.folder)
    grpc, http, management = start.ports
    config = {
        **dict.fromkeys(("inference_address", "management_address"), f"http://127.0.0.1:{http}"),
        "enable_metrics_api": "false",
        "initial_worker_port": http,  # in the name of its socket, which lies in /tmp
        "grpc_inference_address": "127.0.0.1",
        "grpc_inference_port": grpc,
        "grpc_management_address": "127.0.0.1",
        "grpc_management_port": management,
        "default_workers_per_model": 1,
        "disable_token_authorization": "true",
    }
    lines = [f"{name}={value}" for name, value in config.items()]
    (start.folder / "config.properties").write_text("\n".join(lines) + "\n")
    # Its file with the process's number lies in TMPDIR, where there can be one of it.
    command = ["env", f"TMPDIR={start.folder}", "TS_OPEN_INFERENCE_PROTOCOL=oip"]
    command += [str(bin_ / "torchserve"), "--start", "--foreground", "--no-config-snapshots"]
    command += ["--ts-config", str(start.folder / "config.properties")]
    return [*command, "--model-store", str(store), "--models", f"{start.name}={start.name}.mar"]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pyruntime", "grpc", (), _pyruntime),
        # Its workers end at once with the uvloop that pip would choose.
        Peer("mlserver", "grpc", ("mlserver", "uvloop<0.22", "onnxruntime", "numpy"), _mlserver),
        Peer("kserve", "grpc", ("kserve", "onnxruntime", "numpy"), _kserve),
        Peer("bentoml", "rest", ("bentoml", "onnxruntime", "numpy"), _bentoml),
        Peer("litserve", "rest", ("litserve", "onnxruntime", "numpy"), _litserve),
        # It does not name PyYAML. Of torch pip takes the build without CUDA, 2.13.0+cpu, where one
        # of its indexes or folders has it, since that sorts higher.
        Peer(
            "torchserve",
            "grpc",
            (
                "torch==2.13.0",
                "torchserve",
                "torch-model-archiver",
                "pyyaml",
                "onnxruntime",
                "numpy",
            ),
            _torchserve,
            programs=("java",),
            has_typed_contents=True,
            service="org.pytorch.serve.grpc.openinference.GRPCInferenceService",
        ),
        Peer("ray", "rest", ("ray[serve]", "onnxruntime", "numpy"), _ray_serve),
    )
}
