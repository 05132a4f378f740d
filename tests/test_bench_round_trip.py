"""What `bench run` writes is what `compare`, `report` and the frames read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pyruntime.bench import to_frame
from pyruntime.cli import main

MLP = Path(__file__).parent / "models" / "mlp_64_256_256_10.onnx"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    for package in ("onnxruntime", "psutil"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("runs")
    written = []
    for name in ("a", "b"):
        written.append(str(folder / f"{name}.json"))
        grid = ["--concurrency", "1,4", "--batch", "1,2", "--seconds", "0.2"]
        assert main(["bench", "run", str(MLP), *grid, "--json", written[-1]]) == 0
    return written


def test_runs_are_compared(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    conditions = ["--fail-if", "p50 > 100x", "--fail-if", "errors > 0.5"]
    assert main(["bench", "compare", *files, "--figures", "all", *conditions]) == 0
    out = capsys.readouterr().out
    assert "rows 2, concurrency 4" in out
    assert "only in" not in out
    assert main(["bench", "compare", files[0], "--by", "concurrency"]) == 0
    assert "concurrency 4" in capsys.readouterr().out


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)
def test_runs_are_reported(files: list[str], tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    assert main(["bench", "report", *files, "-o", str(page), "--no-png"]) == 0
    text = page.read_text()
    for expected in ("Latency against throughput", "knee: ", "Latency by percentile", "a", "b"):
        assert expected in text


def test_what_others_used_meanwhile_is_known(files: list[str]) -> None:
    from pyruntime.bench.files import read_results

    for measurement in read_results(files[0]).measurements:
        for repetition in measurement.repetitions:
            assert repetition.others_share is not None
            assert 0 <= repetition.others_share <= 1


def test_runs_become_frames(files: list[str]) -> None:
    pytest.importorskip("pandas")
    from pyruntime.bench.files import read_results

    frame = to_frame(read_results(files[0]))
    assert sorted(zip(frame["rows"], frame["concurrency"], strict=True)) == [
        (1, 1),
        (1, 4),
        (2, 1),
        (2, 4),
    ]
    assert (frame["p50_us"] > 0).all()
