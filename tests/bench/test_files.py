"""Files of results: what is written is read, and what is wrong with one is said."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from pyruntime.bench.files import from_json, read_results, write_results
from pyruntime.bench.histogram import Histogram
from pyruntime.bench.results import Configuration, Measurement, Repetition, Results, Skipped
from pyruntime.bench.summary import FIGURES, summarize
from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path


def repetition(scale: int = 1, **changes: Any) -> Repetition:
    """One of a hundred requests of two rows."""
    values: dict[str, Any] = {
        "seconds": 2.0,
        "requests": 100,
        "rows": 200,
        "latency": Histogram.of_ns([scale * 1000 * (i + 1) for i in range(100)]),
        "errors": {"Overloaded": 25},
        "cpu_s": 0.01,
        "batch_rows": {2: 30, 4: 10},
        "gpu": {"energy_j": 50.0},
    }
    return Repetition(**(values | changes))


@pytest.fixture
def results() -> Results:
    repetitions = tuple(repetition(scale) for scale in (1, 2, 3))
    figures, ci = summarize(repetitions)
    closed = Configuration("mlp", "inproc", "closed", device="cpu", concurrency=4, max_rows="auto")
    server = Configuration("mlp", "grpc://h:1", "open", rate_per_s=10.0, max_rows=8)
    return Results(
        created="2026-01-02T03:04:05+00:00",
        command=("bench", "run", "mlp.onnx"),
        fingerprint={"machine": {"cpu": "a", "gpu": None}, "models": {"mlp": {"opset": 17}}},
        measurements=(Measurement(closed, repetitions, figures, ci, is_steady=True, warmup_s=0.5),),
        skipped=(Skipped(server, "no server there"),),
        warnings=("busy",),
    )


def test_what_is_written_is_read(results: Results, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_results(results, file)
    assert read_results(file) == results
    assert json.loads(file.read_text())["schema"] == "pyruntime-bench/1"


def test_a_file_is_replaced_whole_and_keeps_its_mode(results: Results, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("before")
    file.chmod(0o640)
    write_results(results, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    bad = Results("now", (), {"nan": float("nan")}, ())
    with pytest.raises(ValueError, match="Out of range float"):
        write_results(bad, file)
    assert read_results(file) == results
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_keys_of_a_later_version_are_passed_over(results: Results) -> None:
    value = json.loads(json.dumps(results.to_json()))
    value["later"] = 1
    value["measurements"][0]["later"] = {}
    assert from_json(value) == results


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (["schema"], "other/2", "schema: expected 'pyruntime-bench/1', got 'other/2'"),
        (["measurements"], 3, "measurements: expected a list, got 3"),
        (["created"], None, "created: expected a text, got null"),
        (["warnings"], [7], r"warnings\[0\]: expected a text, got 7"),
        (
            ["measurements", 0, "repetitions", 1, "requests"],
            True,
            r"measurements\[0\].repetitions\[1\].requests: expected an integer, got true",
        ),
        (
            ["measurements", 0, "repetitions", 0, "latency", "counts"],
            {"x": 1},
            'latency.counts: expected integers as keys, got "x"',
        ),
        (
            ["measurements", 0, "ci", "p50_us"],
            [1.0],
            r"ci\['p50_us'\]: expected 2 items, got a list of 1",
        ),
        (
            ["skipped", 0, "configuration", "max_rows"],
            1.5,
            "configuration.max_rows: expected an integer or a text, got 1.5",
        ),
        (["measurements", 0, "figures"], [], "figures: expected an object, got a list of 0"),
        (["measurements", 0], "m", r"measurements\[0\]: expected an object, got \"m\""),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(
    results: Results, place: list[Any], value: Any, expected: str
) -> None:
    written = json.loads(json.dumps(results.to_json()))
    at = written
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(InvalidInput, match=f"a.json.*{expected}"):
        from_json(written, where="a.json")


def test_a_missing_key_is_named(results: Results) -> None:
    written = json.loads(json.dumps(results.to_json()))
    del written["measurements"][0]["repetitions"][2]["latency"]
    with pytest.raises(InvalidInput, match=r"repetitions\[2\]: expected a key 'latency', got none"):
        from_json(written)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "got no text"),
        (b"{", "expected JSON, got an error"),
        (b"[1]", "expected results of `bench run` (pyruntime-bench/1), got a list of 1"),
        (b'{"steps": []}', "expected a key 'schema' ('pyruntime-bench/1'), got 'steps'"),
        (b"{}", "got nothing"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    file = tmp_path / "other.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_results(file)
    assert str(caught.value).startswith(str(file))
    assert expected in str(caught.value)


# Figures


def test_figures_are_medians_of_the_repetitions() -> None:
    figures, ci = summarize([repetition(scale) for scale in (1, 2, 9)])
    assert figures["p50_us"] == pytest.approx(100, rel=0.005)
    assert ci["p50_us"] == pytest.approx((50, 450), rel=0.005)
    assert figures["requests_per_s"] == 50
    assert figures["rows_per_s"] == 100
    assert figures["errors_share"] == 0.2
    assert figures["cpu_us_per_request"] == 100
    assert figures["batch_rows_mean"] == 2.5
    assert figures["energy_j_per_request"] == 0.5
    assert set(figures) <= set(FIGURES)


def test_what_has_no_value_is_absent() -> None:
    nothing = repetition(
        requests=0, rows=0, latency=Histogram.of_ns([]), cpu_s=None, batch_rows=None, gpu=None
    )
    figures, ci = summarize([nothing])
    assert figures == {"requests_per_s": 0, "rows_per_s": 0, "errors_share": 1}
    assert set(ci) == set(figures)
