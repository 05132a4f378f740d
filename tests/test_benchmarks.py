"""The benchmarks that are programs in Python start, and measure what they say."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pyruntime.bench.files import read_results

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *options: str) -> dict[str, object]:
    """The line of JSON that a benchmark ends with."""
    command = [sys.executable, "-P", str(BENCHMARKS / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_bench_memory_runs_a_model_that_it_writes_itself() -> None:
    pytest.importorskip("onnxruntime")
    figures = run("bench_memory", "--loads", "2", "--size-mb", "4")
    for side in ("pyruntime", "onnxruntime"):
        assert figures[side]["before_mb"] > 0
        assert len(figures[side]["after_mb"]) == 2


def test_bench_truth_holds_all_loads_against_known_delays() -> None:
    pytest.importorskip("psutil")
    pytest.importorskip("mlperf_loadgen")
    # So short that few requests are sent, and none meets a stall.
    errors = run("bench_truth", "--seconds", "0.3", "--within", "1e6")["errors"]
    assert len(errors) == 18
    # No client sees an answer before the server gives it.
    assert all(error > -0.1 for case, error in errors.items() if "stalls" not in case)


def test_peers_measure_this_server_as_any_other(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("psutil")
    command = [sys.executable, "-m", "benchmarks.peers", "--peers", "pyruntime"]
    command += ["--seconds", "0.5", "--concurrency", "1,2", "--output", str(tmp_path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=BENCHMARKS.parent,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert "pyruntime" in done.stdout
    results = read_results(tmp_path / "pyruntime.json")
    assert [one.configuration.concurrency for one in results.measurements] == [1, 2]


def test_a_client_of_rest_counts_answers_and_errors() -> None:
    pytest.importorskip("psutil")
    sys.path.insert(0, str(BENCHMARKS.parent))
    try:
        from benchmarks.peers.rest import OverRest, _AnswersAtOnce
    finally:
        sys.path.pop(0)

    class Server(_AnswersAtOnce):
        def do_POST(self) -> None:  # noqa: N802
            if self.path == "/predict":
                return super().do_POST()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port, inputs = server.server_address[1], {"x": np.ones((1, 2), np.float32)}
        seen = OverRest(port, "/predict", inputs, os.getpid()).closed(3, 0.05)
        assert seen.requests == seen.latency.count > 0
        assert (seen.errors, seen.ended) == ({}, "")
        broken = OverRest(port, "/other", inputs, os.getpid())
        seen = broken.closed(1, 0.02)
        assert seen.requests == 0
        assert seen.errors["HTTP 503"] > 0
        assert "HTTP 503" in broken.explain()
        server.shutdown()


def test_bench_idle_watches_the_threads_of_three_instances() -> None:
    pytest.importorskip("onnxruntime")
    figures = run("bench_idle", "--seconds", "0.2")
    assert "pyrt-instance" in figures["by_thread_name_ns"]
    assert figures["process_ns"] >= 0


def test_bench_import_holds_the_package_against_numpy() -> None:
    figures = run("bench_import", "--turns", "1")
    assert figures["least_ms"]["pyruntime"] > 0
    assert figures["least_ms"].keys() == {"nothing", "numpy", "pyruntime"}


def test_a_peer_without_its_programs_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))
    from benchmarks.peers.peer import PEERS

    monkeypatch.setenv("PATH", "/nowhere")
    assert PEERS["torchserve"].missing == "it takes java, which is not installed"
    assert PEERS["pyruntime"].missing == ""


def test_the_archive_of_torchserve_holds_the_handler_and_the_addresses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))
    from benchmarks.peers.peer import PEERS, SERVERS, Start

    # In place of torch-model-archiver: what it is told.
    archiver = tmp_path / "bin" / "torch-model-archiver"
    archiver.parent.mkdir()
    archiver.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n')
    archiver.chmod(0o755)
    python = archiver.parent / "python"
    start = Start(tmp_path, python, tmp_path / "m.onnx", "m", (1001, 1002, 1003))
    command = PEERS["torchserve"].command(start)
    told = (tmp_path / "told").read_text()
    assert f"--handler {SERVERS / 'torchserve_handler.py'}" in told
    assert (SERVERS / "torchserve_handler.py").is_file()
    config = (tmp_path / "config.properties").read_text().splitlines()
    assert "grpc_inference_port=1001" in config
    assert "inference_address=http://127.0.0.1:1002" in config
    assert not [line for line in config if "0.0.0.0" in line]
    assert "TS_OPEN_INFERENCE_PROTOCOL=oip" in command
    assert command[-1] == "m=m.mar"
