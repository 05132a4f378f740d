"""`pyruntime models label`, `route`, `promote`, `rollback`; and a server killed meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pyruntime.cli import main
from pyruntime.client import Client
from pyruntime.frontends import FrontEndOptions, front_end
from pyruntime.frontends.management import Management
from pyruntime.repository import ModelRepository, RepositoryOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = Path(__file__).parent / "models" / "identity_f32.onnx"
X = np.ones((1, 16), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in (1, 2):
        (tmp_path / "m" / str(version)).mkdir(parents=True)
        shutil.copy(MODEL, tmp_path / "m" / str(version) / "model.onnx")
    (tmp_path / "m" / "model.toml").write_text(
        '[labels]\nstable = 1\n[route]\npolicy = "label"\nlabel = "stable"\n'
        "[versions]\nall = true\n"
    )
    return tmp_path


@pytest.fixture
def repository(folder: Path) -> Iterator[ModelRepository]:
    with ModelRepository(folder, options=RepositoryOptions()) as repository:
        yield repository


@pytest.fixture
def models(
    repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Run `pyruntime models ...` against a server; gives what it prints."""
    options = FrontEndOptions(("127.0.0.1:0",), management=Management(repository))
    server = front_end("grpc")(repository.runtime, options)
    server.start()

    def run(*arguments: str, status: int = 0) -> str:
        command, *rest = arguments
        assert main(["models", command, "--server", server.addresses[0], *rest]) == status
        printed = capsys.readouterr()
        return printed.out if status == 0 else printed.out + printed.err

    yield run
    server.stop()


def test_labels_are_shown_moved_and_removed(models: Any) -> None:
    assert "labels:  stable = 1\n" in models("label", "m")
    assert "labels:  old = 1, stable = 2\n" in models("label", "m", "stable=2", "old=1")
    assert "labels:  stable = 2\n" in models("label", "m", "--remove", "old")
    shown = json.loads(models("label", "m", "--json"))
    assert shown["labels"] == {"stable": 2}
    assert "has no version 9; loaded: 1, 2" in models("label", "m", "stable=9", status=1)


def test_a_route_is_shown_and_set(models: Any, repository: ModelRepository) -> None:
    assert 'route:   {"policy": "label", "label": "stable"}' in models("route", "m")
    models("route", "m", "--split", "stable=90%,2=10%", "--shadow", "2", "--copied", "50%")
    model = repository.runtime.model("m")
    for _ in range(50):
        model.infer({model.inputs[0].name: X})
    shown = json.loads(models("route", "m", "--json"))
    assert shown["route"]["shares"] == {"stable": 90.0, "2": 10.0}
    assert sum(arm["assigned"] for arm in shown["arms"]) == 50
    assert shown["shadow"]["sampled"] > 5
    table = models("route", "m")
    assert "ARM     TARGET  REQUESTS" in table
    assert "requests copied" in table
    for arguments in (["--latest"], ["--version", "2"], ["--label", "stable"], ["--declared"]):
        models("route", "m", *arguments)
    assert repository.runtime.model("m").version == 1


def test_a_route_comes_from_a_file(models: Any, tmp_path: Path) -> None:
    file = tmp_path / "route.toml"
    file.write_text(
        '[route]\npolicy = "bandit"\nname = "colours"\n[route.arms]\na = 1\nb = "stable"\n'
    )
    shown = json.loads(models("route", "m", "--file", str(file), "--json"))
    assert shown["route"]["name"] == "colours"
    file.write_text('policy = "bandit"\n')
    assert f"{file}: expected the key 'name', found none" in models(
        "route", "m", "--file", str(file), status=1
    )


def test_a_version_is_promoted_and_rolled_back(models: Any, repository: ModelRepository) -> None:
    gates = ["--max-p99", "1.2x", "--max-error", "0.1%", "--max-diff", "1e-3"]
    printed = models("promote", "m", "2", "--canary", "1%,50%", "--every", "5m", *gates)
    assert "m: version 2 gets 1 % of the requests, step 1 of 2\n" in printed
    status = repository.runtime.rollout("m")
    assert status is not None
    assert status.rollout.plan.every_s == 300
    assert status.rollout.plan.gates.max_error == pytest.approx(0.001)
    assert "gets 1 %" in models("rollout", "m")
    assert json.loads(models("rollout", "m", "--json"))["canary"] == [1.0, 50.0]
    assert "rolled back (asked for); version 1 answers\n" in models("rollback", "m")
    printed = models("promote", "m", "2")
    assert printed == "m: version 2 answers all requests; version 1 answered before\n"
    assert "version 2 answers already" in models("promote", "m", "2", status=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label", "m", "stable"], "expected LABEL=VERSION, such as stable=7, got 'stable'"),
        (["route", "m", "--split", "a=50"], "expected a share such as 1% or 0.1%, got '50'"),
        (["route", "m", "--split", "a"], "expected TARGET=SHARE, such as stable=99%, got 'a'"),
        (["promote", "m", "2", "--canary", "1"], "expected a share such as 1%"),
        (["promote", "m", "2", "--every", "soon"], "expected a duration such as 30s or 5m"),
        (["promote", "m", "2", "--max-p99", "fast"], "expected a multiple such as 1.2x"),
    ],
)
def test_wrong_usage_is_explained(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_rollout_survives_that_its_server_is_killed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = f"unix:{tmp_path}/socket"
    serve = [sys.executable, "-P", "-m", "pyruntime.cli", "serve", str(folder), "--grpc", socket]
    serve += ["--mode", "explicit", "--load-model", "m"]

    def started() -> subprocess.Popen[str]:
        process = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        return process

    def models(*arguments: str) -> str:
        assert main(["models", arguments[0], "--server", socket, *arguments[1:]]) == 0
        return capsys.readouterr().out

    process = started()
    try:
        models("label", "m", "old=1")
        models("promote", "m", "2", "--canary", "50%", "--every", "1h")
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        process = started()
        assert "gets 50 % of the requests" in models("rollout", "m")
        with Client(socket) as client:
            seen = {client.infer("m", {"x": X}).version for _ in range(40)}
        assert seen == {"1", "2"}
        assert "version 1 answers" in models("rollback", "m")
        assert json.loads(models("label", "m", "--json"))["labels"] == {"old": 1, "stable": 1}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
