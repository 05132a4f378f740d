"""`bench run`: what it measures, keeps and refuses. How fast things are is not tested here."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyruntime import _probe
from pyruntime.bench import run
from pyruntime.bench.events import Finished, Left, Planned, Repeated, Searched, Started
from pyruntime.bench.files import read_results
from pyruntime.bench.results_text import results_text
from pyruntime.cli import main
from pyruntime.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from pyruntime.bench.results import Results

pytest.importorskip("onnxruntime")
pytest.importorskip("psutil")

MODELS = Path(__file__).parents[1] / "models"
MLP = MODELS / "mlp_64_256_256_10.onnx"
IDENTITY = MODELS / "identity_f32.onnx"
SHORT = {"seconds": 0.3, "repetition_s": 0.02}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of `pyruntime serve` with the MLP and a model that takes any rank."""
    repository = tmp_path_factory.mktemp("served") / "repository"
    for model in (MLP, MODELS / "split_in_three.onnx"):
        version = repository / model.stem / "1"
        version.mkdir(parents=True)
        shutil.copy(model, version / "model.onnx")
    command = [sys.executable, "-P", "-m", "pyruntime", "serve", str(repository)]
    with subprocess.Popen(
        [*command, "--grpc", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "listening on " in line:
                yield line.split("listening on ")[1].split()[0]
                break
        process.terminate()


# What it measures


def test_every_combination_is_measured_with_all_its_figures() -> None:
    results = run(MLP, rows=(1, 2), concurrency=(1, 4), threads=(1, 2), **SHORT)
    assert len(results.measurements) == 8
    assert results.skipped == ()
    seen = {(m.configuration.rows, m.configuration.concurrency, m.configuration.threads)
            for m in results.measurements}  # fmt: skip
    assert len(seen) == 8
    for measurement in results.measurements:
        figures, rows = measurement.figures, measurement.configuration.rows
        order = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
        assert 0 < figures["p50_us"] <= figures["max_us"]
        assert [figures[name] for name in order] == sorted(figures[name] for name in order)
        assert figures["rows_per_s"] == pytest.approx(rows * figures["requests_per_s"])
        assert figures["errors_share"] == 0
        assert figures["cpu_us_per_request"] > 0
        assert figures["peak_bytes"] > 1 << 20
        assert figures["batch_rows_mean"] >= rows
        assert measurement.generator_share is not None
        assert measurement.is_complete
        assert measurement.configuration.provider == "cpu"
        for one in measurement.repetitions:
            assert one.latency.count == one.requests
            assert one.rows == rows * one.requests
            # What the engine ran is what was answered, but for what is counted a moment later.
            ran = sum(size * count for size, count in (one.batch_rows or {}).items())
            assert ran == pytest.approx(one.rows, rel=0.1, abs=16)
        for name, (low, high) in measurement.ci.items():
            assert low <= figures[name] <= high


def test_the_fingerprint_says_what_was_measured_and_how() -> None:
    pytest.importorskip("onnx")
    results = run(MODELS / "conv_64.onnx", **SHORT)
    print_ = results.fingerprint
    model = print_["models"]["conv_64"]
    assert model["file"] == "conv_64.onnx"
    assert len(model["sha256"]) == 64
    assert model["opset"]["ai.onnx"] >= 13
    assert model["flops_per_request"] > 1e6
    assert model["inputs"]
    assert print_["versions"]["onnxruntime"]
    assert print_["machine"]["cores"] >= 1
    assert print_["server"] is None
    assert print_["options"]["within"] == 0.03
    assert print_["request"]["source"] == "random"


def test_open_arrivals_are_measured_from_when_they_were_meant() -> None:
    results = run(IDENTITY, rates=(500.0,), seconds=0.5, repetition_s=0.05)
    (measurement,) = results.measurements
    assert measurement.configuration.scenario == "open"
    for one in measurement.repetitions:
        assert one.service is not None
        assert one.service.count == one.latency.count == one.requests
        assert one.service.sum_us <= one.latency.sum_us


def test_a_repository_is_measured_model_by_model_with_its_options(tmp_path: Path) -> None:
    for name in ("first", "second"):
        for version in ("1", "2"):
            folder = tmp_path / name / version
            folder.mkdir(parents=True)
            shutil.copy(IDENTITY, folder / "model.onnx")
    (tmp_path / "second" / "model.toml").write_text("intra_op_threads = 2\n")
    results = run(tmp_path, **SHORT)
    placed = {m.configuration.model: m.configuration.threads for m in results.measurements}
    assert placed == {"first": 1, "second": 2}
    assert {*results.fingerprint["models"]} == {"first", "second"}
    (only,) = run(tmp_path, names=("second",), **SHORT).measurements
    assert only.configuration.model == "second"


def test_events_tell_what_happens_in_order() -> None:
    events = []
    run(IDENTITY, concurrency=(1, 2), on_event=events.append, **SHORT)
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Planned, Started]
    assert events[0].points == 2
    assert kinds.count(Finished) == 2
    assert Repeated in kinds
    assert max(event.share_of_time for event in events if isinstance(event, Repeated)) <= 1


def test_the_highest_rate_that_keeps_a_promise_is_found() -> None:
    events = []
    results = run(IDENTITY, slo="p99=1s", seconds=1.0, on_event=events.append)
    (measurement,) = results.measurements
    rate = measurement.figures["max_rate_per_s"]
    assert rate > 0
    assert measurement.configuration.slo == "p99=1s"
    assert measurement.configuration.rate_per_s is None
    assert measurement.figures["p99_us"] <= 1e6
    assert [event for event in events if isinstance(event, Searched)]
    assert f"at most {rate:.0f} requests/s keep p99=1s" in results_text(results)


def test_inputs_come_from_a_file_and_zeros_only_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, x=np.ones((4, 64), np.float32))
    results = run(MLP, inputs=file, rows=(3,), **SHORT)
    assert results.fingerprint["request"] == {
        "shapes": {MLP.stem: {"x": [3, 64]}}, "seed": 0, "source": "rows.npz"
    }  # fmt: skip
    assert not [text for text in results.warnings if "zeros" in text]
    results = run(MLP, zeros=True, **SHORT)
    assert [text for text in results.warnings if "zeros" in text]


# Servers


def test_a_server_is_measured_from_outside(server: str) -> None:
    results = run(MLP.stem, target=f"grpc://{server}", concurrency=(1, 3), **SHORT)
    assert len(results.measurements) == 2
    assert results.fingerprint["server"]["name"] == "pyruntime"
    for measurement in results.measurements:
        # Of the server's process, in ticks of 10 ms: a short repetition may have none.
        assert measurement.figures["cpu_us_per_request"] >= 0
        assert measurement.figures["batch_rows_mean"] >= 1  # by ModelStatistics
        assert measurement.configuration.threads is None
        assert measurement.generator_share is not None


def test_a_server_is_measured_with_arrivals_too(server: str) -> None:
    (measurement,) = run(MLP, target=f"grpc://{server}", rates=(100.0,), **SHORT).measurements
    assert measurement.figures["errors_share"] == 0
    assert measurement.repetitions[0].service is not None


def test_dimensions_that_a_server_leaves_open_must_be_given(server: str) -> None:
    name = "split_in_three"
    with pytest.raises(InvalidInput, match=r"dimension 'x\.1' is dynamic.*--dim x\.1=SIZE"):
        run(name, target=f"grpc://{server}", **SHORT)
    (measurement,) = run(name, target=f"grpc://{server}", dims={"x.1": 6}, **SHORT).measurements
    assert measurement.figures["errors_share"] == 0
    # 7 columns cannot be split in three: the server's own reason is passed on.
    results = run(name, target=f"grpc://{server}", dims={"x.1": 7}, **SHORT)
    assert results.measurements == ()
    assert "split" in results.skipped[0].reason.lower()


def test_a_model_that_a_server_does_not_have_is_its_answer(server: str) -> None:
    results = run("nothing", target=f"grpc://{server}", **SHORT)
    assert "NOT_FOUND" in results.skipped[0].reason


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("grpc://127.0.0.1:1", "127.0.0.1:1"),
        ("grpc://unix:/nowhere/socket", "/nowhere/socket"),
    ],
)
def test_an_unreachable_target_is_named(target: str, expected: str) -> None:
    with pytest.raises(Unavailable, match=expected):
        run("m", target=target, **SHORT)


def test_a_server_that_dies_leaves_what_was_measured(monkeypatch, tmp_path: Path) -> None:
    from pyruntime.bench import steady, subjects
    from pyruntime.bench.grid import Placement
    from pyruntime.bench.load.target import Usage, from_native
    from pyruntime.tensors import TensorSpec

    responder = _probe.GrpcResponder(b"", np.full(1, 1_000_000), 0, 0, 0, 0)
    # Repetitions before it dies, counted from the end of the warm-up.
    left = [math.inf]

    def warm_up_first(*args, **kwargs):
        done = steady.warm_up(*args, **kwargs)
        left[0] = 3
        return done

    monkeypatch.setattr(sys.modules["pyruntime.bench.repeating"], "warm_up", warm_up_first)

    class Dying:
        """A target that only answers by a socket."""

        def __init__(self) -> None:
            self._load = _probe.GrpcLoad(responder.address, "/a/B", b"", 1, 1, 1.0, 1.0)

        def closed(self, in_flight, seconds):
            left[0] -= 1
            if left[0] >= 0:
                return from_native(self._load.closed(in_flight, seconds))
            death = threading.Thread(target=responder.close)
            death.start()
            # As long as that takes: the call ends when the server does.
            seen = from_native(self._load.closed(in_flight, 60))
            death.join()
            return seen

        def limit(self, **_):
            return None

        def usage(self):
            return Usage()

        def batches(self):
            return None

        def explain(self):
            return "it is gone"

        def close(self):
            responder.close()

    loaded = subjects.Loaded(
        (TensorSpec("x", shape=(-1, 2)),), (), True, Placement(), lambda _: Dying()
    )

    class Remote:
        def __init__(self, *_, **__):
            self.about = {}
            self.is_here = False

        def load(self, *_):
            return loaded

        def close(self):
            pass

    grid_run = sys.modules["pyruntime.bench.grid_run"]
    monkeypatch.setattr(grid_run, "Remote", Remote)
    file = tmp_path / "kept.json"
    results = run(
        "m",
        target=f"grpc://{responder.address}",
        concurrency=(1, 2),
        seconds=5,
        figure="requests_per_s",
        within=1e-9,  # it shall not end before the server does
        repetition_s=0.02,
        save=file,
    )
    (measurement,) = results.measurements
    assert not measurement.is_complete
    assert sum(one.requests for one in measurement.repetitions) > 0
    assert any("ended early: the connection was lost" in text for text in measurement.warnings)
    (skipped,) = results.skipped
    assert skipped.configuration.concurrency == 2
    assert "Connection refused" in skipped.reason
    assert read_results(file) == results
    assert "ended early" in results_text(results)


def test_a_server_that_takes_fewer_calls_at_once_is_said() -> None:
    from pyruntime.bench.load.over_grpc import OverGrpc

    responder = _probe.GrpcResponder(b"", np.empty(0, np.int64), 0, 0, 0, 0)
    target = OverGrpc(responder.address, "m", b"")
    try:
        assert target.closed(4, 0.02).notes == ()
        seen = _probe.GrpcLoad(responder.address, "/a/B", b"", 1, 1, 1.0, 1.0).closed(2, 0.02)

        class Limited:
            def closed(self, *_):
                return seen

        target._load = Limited()
        (note,) = target.closed(4, 0.02).notes
        assert note.startswith("the server took 2 calls at once and not 4")
    finally:
        target.close()
        responder.close()


# What it keeps


def test_a_file_is_written_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    seen: list[Results] = []

    def look(event: object) -> None:
        if isinstance(event, Finished):
            seen.append(read_results(file))

    results = run(IDENTITY, concurrency=(1, 2), save=file, on_event=look, **SHORT)
    assert [len(each.measurements) for each in seen] == [1, 2]
    assert read_results(file) == results


def test_an_interrupted_run_keeps_the_point_that_was_going_on(tmp_path: Path) -> None:
    file = tmp_path / "results.json"

    def interrupt(event: object) -> None:
        if isinstance(event, Repeated) and event.repetitions == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(IDENTITY, save=file, on_event=interrupt, **SHORT)
    (measurement,) = read_results(file).measurements
    assert not measurement.is_complete
    assert measurement.repetitions


def test_a_point_that_does_not_load_is_skipped_with_its_reason() -> None:
    events = []
    results = run(IDENTITY, devices=("cuda:9", "cpu"), on_event=events.append, **SHORT)
    assert len(results.measurements) == 1
    (skipped,) = results.skipped
    assert skipped.configuration.device == "cuda:9"
    assert "cuda" in skipped.reason
    assert [event for event in events if isinstance(event, Left)]
    assert "not measured: " in results_text(results)


def test_a_request_that_always_fails_says_why() -> None:
    results = run(MODELS / "split_in_three.onnx", dims={"width": 7}, **SHORT)
    assert "no request was answered with a result" in results.skipped[0].reason
    assert "split" in results.skipped[0].reason.lower()


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing.onnx"], "model 'nothing.onnx': expected an .onnx file or a repository's folder"),
        (["name"], "model 'name': expected an .onnx file or a repository's folder, got nothing"),
        ([str(IDENTITY), "--scenario", "poisson"], "scenario: expected one of closed, open, "),
        (
            [str(IDENTITY), "--scenario", "open"],
            "scenario open: expected a rate (--rate)",
        ),
        ([str(IDENTITY), "--concurrency", "0"], "concurrency: expected at least 1, got 0"),
        ([str(IDENTITY), "--batch", "0"], "rows: expected at least 1, got 0"),
        ([str(IDENTITY), "--rate", "-1"], "rate: expected more than 0 per second, got -1"),
        ([str(IDENTITY), "--seconds", "0"], "seconds: expected more than 0, got 0"),
        ([str(IDENTITY), "--within", "0"], "within: expected more than 0, got 0"),
        ([str(IDENTITY), "--figure", "p42"], "figure: expected one of p50_us"),
        ([str(IDENTITY), "--slo", "p99=1ms"], "--find-max-qps and --slo: expected both or none"),
        ([str(IDENTITY), "--find-max-qps", "--slo", "p9=1"], "slo: expected FIGURE=TIME such as"),
        ([str(IDENTITY), "--target", "http://h:1"], "target: expected inproc, grpc://HOST:PORT"),
        ([str(IDENTITY), "--target", "grpc://h:1", "--threads", "2"], "threads: a server chooses"),
        ([str(IDENTITY), "--json", "/nowhere/a.json"], "--json /nowhere/a.json: expected a file"),
        ([str(IDENTITY), "--inputs", "/nowhere.npz"], "/nowhere.npz: No such file"),
        ([str(IDENTITY), "--inputs", __file__], "expected an .npz file"),
        ([str(IDENTITY), "--max-rows", "many"], "max_rows: expected"),
        ([str(MODELS / "static_batch.onnx"), "--batch", "2"], "rows: expected 1, since"),
        ([str(MODELS / "split_in_three.onnx")], "dimension 'width' is dynamic, and its size"),
        ([str(MODELS), "--model-name", "x"], "model-name: expected models of"),
    ],
)
def test_mistakes_are_named(arguments, expected, capsys) -> None:
    assert main(["bench", "run", *arguments]) == 1
    captured = capsys.readouterr()
    assert expected in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": np.ones((1, 64), np.float32)}, "inputs: expected some of 'x', got 'y'"),
        (
            {"x": np.ones((1, 63), np.float32)},
            r"input 'x': expected float32\[\*, 64\], got ",
        ),
        ({"x": np.ones((1, 64))}, r"input 'x': expected float32\[\*, 64\], got float64\[1, 64\]"),
        ({"x": np.ones((1, 64), np.float32)}, "input 'x': expected at least 2 rows, got 1"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, expected) -> None:
    with pytest.raises(InvalidInput, match=expected):
        run(MLP, inputs=arrays, rows=(2,), **SHORT)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rows.npz"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"rows\.npz: expected an \.npz file"):
        run(MLP, inputs=file)


# The command


def test_the_command_prints_a_table_and_lines_of_progress(tmp_path: Path, capsys) -> None:
    file = tmp_path / "results.json"
    command = ["bench", "run", str(IDENTITY), "--seconds", "0.3", "--repetition", "0.02"]
    assert main([*command, "--json", str(file), "--concurrency", "1,2"]) == 0
    captured = capsys.readouterr()
    assert "closed x1" in captured.out
    assert "requests/s" in captured.out
    assert "[1/2] identity_f32, cpu, threads 1: closed x1" in captured.err
    assert len(read_results(file).measurements) == 2


def test_the_command_prints_json_alone(capsys) -> None:
    command = ["bench", "run", str(IDENTITY), "--seconds", "0.3", "--repetition", "0.02"]
    assert main([*command, "--json", "-", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["schema"] == "pyruntime-bench/1"
    assert captured.err == ""


def test_the_command_fails_where_something_was_not_measured(capsys) -> None:
    command = ["bench", "run", str(IDENTITY), "--seconds", "0.3", "--device", "cuda:9"]
    assert main(command) == 1
    assert "not measured: " in capsys.readouterr().out


def test_on_a_terminal_bars_and_a_table_are_shown(monkeypatch) -> None:
    pytest.importorskip("rich")
    from pyruntime.commands.bench.progress import _Live

    with _Live() as live:
        results = run(IDENTITY, devices=("cpu", "cuda:9"), on_event=live.tell, **SHORT)
        rendered = live._render()
    assert len(results.measurements) == 1
    assert rendered is not live._bars  # the table is above them
    assert live._bars.tasks[0].completed == 2


def test_importing_the_package_imports_none_of_it() -> None:
    code = "import sys, pyruntime, pyruntime.bench; print('psutil' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
