"""Comparing runs: what is claimed, what is refused, and how often a claim is wrong."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from results_for_tests import FINGERPRINT, measurement, noisy, results

from pyruntime.bench import compare, to_frame
from pyruntime.bench.conditions import parse_condition
from pyruntime.bench.differences_text import differences_text
from pyruntime.bench.files import write_results
from pyruntime.bench.histogram import Histogram
from pyruntime.bench.results import Repetition
from pyruntime.bench.summary import summarize
from pyruntime.cli import main
from pyruntime.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from pyruntime.bench.results import Results

EXACTLY = (100.0, 100.2, 99.9, 100.1, 99.8)
FIGURES = ["p50_us", "p99_us", "requests_per_s"]


def scaled(factor: float, **fields: Any) -> Results:
    """Two configurations, all latencies times `factor`."""
    return results(
        *(measurement([factor * c * us for us in EXACTLY], concurrency=c, **fields) for c in (1, 8))
    )


def verdicts(found: Any) -> set[str]:
    return {row.verdict for row in found.rows}


# What is compared


def test_equal_runs_show_no_difference_and_slow_ones_are_worse() -> None:
    assert verdicts(compare(scaled(1), scaled(1))) == {"no difference"}
    found = compare(scaled(1), scaled(1.05))
    assert verdicts(found) == {"worse"}
    row = found.rows[0]
    assert row.ratio == pytest.approx(1.05, rel=1e-3)
    assert row.ci is not None
    assert row.ci[0] < 1.05 < row.ci[1]
    assert verdicts(compare(scaled(1.05), scaled(1))) == {"better"}


def test_rows_come_by_configuration_then_figure_then_side() -> None:
    found = compare(
        scaled(1), scaled(1.1), scaled(1.2), labels=["a", "b", "c"], figures=["p50", "p99"]
    )
    seen = [(row.configuration["concurrency"], row.figure, row.side) for row in found.rows]
    assert seen == list(itertools.product((1, 8), ("p50_us", "p99_us"), ("b", "c")))


def test_what_sets_the_sides_apart_is_found_and_the_rest_matched() -> None:
    found = compare(
        scaled(1, device="cpu"), scaled(0.5, device="cuda:0", threads=4), labels=["a", "b"]
    )
    assert found.compared == {
        "device": {"a": "cpu", "b": "cuda:0"},
        "threads": {"a": None, "b": 4},
    }
    assert "device" not in found.rows[0].configuration
    assert not found.unmatched


def test_what_only_one_side_has_is_named() -> None:
    found = compare(
        results(measurement(EXACTLY), measurement(EXACTLY, rows=4)),
        results(measurement(EXACTLY), measurement(EXACTLY, rows=8)),
        labels=["a", "b"],
    )
    assert [(item.configuration["rows"], item.sides) for item in found.unmatched] == [
        (4, ("a",)),
        (8, ("b",)),
    ]
    assert "only in b: rows 8" in differences_text(found)


def test_one_file_is_compared_with_itself_by_a_field() -> None:
    made = results(
        *(
            measurement([us * factor for us in EXACTLY], device=device, concurrency=load)
            for device, factor in (("cpu", 1), ("cuda:0", 0.5))
            for load in (1, 8)
        )
    )
    found = compare(made, by="device", figures=["p50"])
    assert [side.label for side in found.sides] == ["device cpu", "device cuda:0"]
    assert [row.configuration["concurrency"] for row in found.rows] == [1, 8]
    assert verdicts(found) == {"better"}
    loads = compare(made, by="concurrency", figures=["p50"])
    assert list(loads.compared) == ["concurrency"]
    with pytest.raises(InvalidInput, match=r"several values \(device, concurrency\), got 'rows'"):
        compare(made, by="rows")
    with pytest.raises(InvalidInput, match="one side to take apart by device, got 2"):
        compare(made, made, by="device")


def test_sides_without_a_configuration_in_common_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match="no configuration is on both sides: results \\(1\\) has"
    ):
        compare(results(measurement(EXACTLY, rows=4)), results(measurement(EXACTLY, rows=8)))


def test_a_figure_that_can_be_zero_is_compared_without_a_ratio() -> None:
    one = results(measurement(EXACTLY))
    other = results(measurement(EXACTLY, errors=200))
    row = next(row for row in compare(one, other).rows if row.figure == "errors_share")
    assert (row.before, row.ratio, row.ci, row.verdict) == (0, None, None, "worse")
    # Where nothing failed there is no such row.
    assert "errors_share" not in {row.figure for row in compare(one, one).rows}


def test_one_repetition_says_that_nothing_is_known_of_its_spread() -> None:
    found = compare(results(measurement([100])), results(measurement([200])))
    assert verdicts(found) == {"unknown"}
    assert found.rows[0].ratio == pytest.approx(2, rel=0.01)
    assert "unknown: 4 of 4 figures" in differences_text(found)


def test_what_is_too_noisy_to_tell_is_not_passed_off_as_equal() -> None:
    rng = np.random.default_rng(0)
    sides = [results(measurement(noisy(rng, 100, sd=0.3))) for _ in "ab"]
    found = compare(*sides, figures=["p50"])
    assert verdicts(found) == {"no difference"}
    assert (found.rows[0].seen_from or 0) > 0.25
    text = differences_text(found)
    assert "no difference seen, noisy" in text
    assert "1 not even one of 25 %" in " ".join(text.split())


def test_single_runs_of_a_busy_machine_are_trusted_less() -> None:
    def disturbed(factor: float) -> Results:
        one = measurement([factor * us for us in EXACTLY])
        repetitions = [dataclasses.replace(each, others_share=0.2) for each in one.repetitions]
        return results(dataclasses.replace(one, repetitions=tuple(repetitions)))

    found = compare(disturbed(1), disturbed(1.3), labels=["a", "b"], figures=["p50"])
    assert verdicts(found) == {"no difference"}
    assert any(
        line.startswith("b: others used up to 20 % of the processors while 1 of its configurations")
        for line in found.warnings
    )
    assert verdicts(compare(disturbed(1), disturbed(2.5), figures=["p50"])) == {"worse"}
    assert verdicts(compare(disturbed(1), disturbed(1.3), run_to_run=0.01)) == {"worse"}
    several = [[disturbed(factor) for _ in range(3)] for factor in (1, 1.3)]
    assert verdicts(compare(*several, figures=["p50"])) == {"worse"}


def test_two_repetitions_bound_hardly_anything() -> None:
    found = compare(
        results(*(measurement([100, 300], concurrency=load) for load in range(1, 9))),
        results(*(measurement([300, 100], concurrency=load) for load in range(1, 9))),
    )
    assert verdicts(found) == {"no difference"}
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["rows"]
    assert "e+0" in differences_text(found)


def test_several_runs_a_side_are_worth_more_than_one() -> None:
    rng = np.random.default_rng(0)
    sides = [
        [
            results(measurement(noisy(rng, at * math.exp(rng.normal(0, 0.002)), sd=0.03)))
            for _ in range(5)
        ]
        for at in (100, 103)
    ]
    assert verdicts(compare(*sides, figures=["p50"])) == {"worse"}
    assert verdicts(compare(sides[0][0], sides[1][0], figures=["p50"])) == {"no difference"}


def test_other_fingerprints_are_warned_of() -> None:
    other = copy.deepcopy(FINGERPRINT)
    other["machine"] |= {"cpu": "Example 4000", "load_1min": 7.5}
    other["versions"]["onnxruntime"] = "1.25.0"
    other["models"]["mlp"]["sha256"] = "cd" * 32
    found = compare(
        scaled(1), results(measurement(EXACTLY), fingerprint=other), labels=["old", "new"]
    )
    expected = [
        "'mlp' is not the same model file",
        "machine cpu: Example 3000 in old, Example 4000 in new",
        "versions onnxruntime: 1.24.0 in old, 1.25.0 in new",
        "the machine of new was busy before it began: load 7.5 on 8 cores",
    ]
    for start, line in zip(expected, found.warnings, strict=False):
        assert line.startswith(start)
    same = compare(scaled(1), scaled(1), labels=["old", "new"])
    assert [line.startswith("one run of old and new") for line in same.warnings] == [True]


def test_warnings_of_what_was_measured_are_passed_on() -> None:
    limited = results(
        measurement(EXACTLY, is_complete=False, warnings=("the generator was the limit",))
    )
    busy = results(measurement(EXACTLY), warnings=("other load: 20 % of the processors",))
    lines = compare(limited, busy, labels=["a", "b"]).warnings
    assert "b: other load: 20 % of the processors" in lines
    assert any("ended early" in line for line in lines)
    assert any("the generator was the limit" in line for line in lines)


# Conditions


@pytest.mark.parametrize(
    ("condition", "figure", "is_above", "limit", "is_ratio"),
    [
        ("p99 > 1.1x", "p99_us", True, 1.1, True),
        ("p99_us>1.1x", "p99_us", True, 1.1, True),
        (" requests_per_s < -5% ", "requests_per_s", False, 0.95, True),
        ("p99 > +10 %", "p99_us", True, 1.1, True),
        ("p99 > 12ms", "p99_us", True, 12e3, False),
        ("p99 > 1e3 us", "p99_us", True, 1e3, False),
        ("requests_per_s < 2000/s", "requests_per_s", False, 2000, False),
        ("errors > 0.01", "errors_share", True, 0.01, False),
    ],
)
def test_conditions_are_understood(
    condition: str, figure: str, is_above: bool, limit: float, is_ratio: bool
) -> None:
    read = parse_condition(condition, [*FIGURES, "errors_share"])
    assert (read.figure, read.is_above, read.is_ratio) == (figure, is_above, is_ratio)
    assert read.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("p99 >> 2x", "expected FIGURE > LIMIT or FIGURE < LIMIT"),
        ("p99 > 10%", "expected FIGURE > LIMIT"),
        ("", "expected FIGURE > LIMIT"),
        ("p98 > 1.1x", "expected a figure among .*p99_us.*, got 'p98'"),
        ("p99 > 12", "expected us, ms or s after the amount of p99_us.*got nothing"),
        ("requests_per_s < 5ms", "expected no unit or /s.*got ms"),
        ("requests_per_s < -100%", "expected a ratio above 0"),
        ("errors > 1.1x", "expected an amount"),
        ("p99 > 1.1x where rows", "expected FIELD=VALUE after where, got 'rows'"),
        ("p99 > 1.1x where rows=3", "expected a configuration that it concerns"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(condition: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compare(results(measurement(EXACTLY, errors=1)), scaled(1), fail_if=[condition])


@pytest.mark.parametrize(
    ("condition", "factor", "status"),
    [
        ("p99 > 1.1x", 1.0, "kept"),
        ("p99 > 1.1x", 1.11, "not shown"),  # beyond, but not surely so
        ("p99 > 1.1x", 1.3, "breached"),
        ("requests_per_s < -20%", 1.5, "breached"),
        ("requests_per_s > 1.2x", 1.5, "kept"),
        ("p99 > 0.1ms where concurrency=1", 1.3, "breached"),
        ("p99 > 10ms", 1.3, "kept"),
    ],
)
def test_only_a_sure_breach_fails(condition: str, factor: float, status: str) -> None:
    found = compare(scaled(1), scaled(factor), fail_if=[condition])
    assert {check.status for check in found.checks} == {status}
    assert found.is_breached == (status == "breached")
    assert len(found.checks) == (1 if "where" in condition else 2)


@pytest.mark.parametrize("condition", ["p99 > 1.1x", "p99 > 9s", "requests_per_s < -5%"])
def test_a_server_that_answers_nothing_is_a_breach(condition: str) -> None:
    nothing = Repetition(1.0, 0, 0, Histogram.of_ns([]), errors={"Unavailable": 5})
    alive = measurement(EXACTLY)
    figures, ci = summarize([nothing] * 3)
    dead = dataclasses.replace(alive, repetitions=(nothing,) * 3, figures=figures, ci=ci)
    found = compare(results(alive), results(dead), fail_if=[condition])
    assert [(check.value, check.status) for check in found.checks] == [(None, "breached")]
    assert "no answer" in differences_text(found)
    if "x" not in condition:
        return
    with pytest.raises(InvalidInput, match="got none"):
        compare(results(dead), results(alive), fail_if=["p99 > 1.1x"])


# Other programs' files


def test_ledgers_are_compared(tmp_path: Path) -> None:
    def write(name: str, us: float) -> Path:
        step = {
            "name": "core",
            "in_flight": 1,
            "p50_us": us,
            "p99_us": 2 * us,
            "rows_per_s": 1e6 / us,
        }
        ci = {"p50_us": [0.99 * us, 1.01 * us], "ratio_to_run": [0.89, 0.91]}
        ci["rows_per_s"] = [0.99e6 / us, 1.01e6 / us]
        step |= {"ratio_to_run": 0.9, "us_per_request": us, "ci": ci}
        print_ = {"cpu": "x", "options": {}, "threads": {}, "provider": ["cpu"], "versions": {}}
        made = {"steps": [step], "turns": 20, "slice_ms": 50, "warnings": [], "fingerprint": print_}
        (tmp_path / name).write_text(json.dumps(made))
        return tmp_path / name

    found = compare(write("a.json", 10), write("b.json", 12))
    by_figure = {row.figure: row.verdict for row in found.rows}
    assert by_figure == {"p50_us": "worse", "rows_per_s": "worse", "ratio_to_run": "no difference"}
    assert found.rows[0].configuration == {"step": "core", "in_flight": 1}


@pytest.mark.parametrize("with_data", [True, False])
def test_files_of_pytest_benchmark_are_compared(tmp_path: Path, with_data: bool) -> None:
    rng = np.random.default_rng(0)

    def write(name: str, seconds: float) -> Path:
        data = noisy(rng, seconds, count=400, sd=0.02)
        quarters = np.quantile(data, (0.25, 0.75))
        stats = {"median": float(np.median(data)), "iqr": float(np.diff(quarters)[0])}
        stats |= {"min": float(data.min()), "rounds": 400}
        made = {
            "machine_info": {"cpu": {"brand_raw": "x", "count": 2}, "python_version": "3.11"},
            "benchmarks": [
                {
                    "fullname": "b.py::t",
                    "stats": stats | ({"data": list(data)} if with_data else {}),
                }
            ],
        }
        (tmp_path / name).write_text(json.dumps(made))
        return tmp_path / name

    first = write("a.json", 1e-5)
    assert verdicts(compare(first, write("b.json", 1.1e-5))) == {"worse"}
    assert verdicts(compare(first, write("c.json", 1e-5))) == {"no difference"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, got an error"),
        ("[]", "expected the JSON of `bench run`.*got a JSON list"),
        ('{"a": 1}', "got an object with the keys 'a'"),
        ('{"schema": "pyruntime-bench/99"}', "schema: expected 'pyruntime-bench/1'"),
        ('{"benchmarks": [{}], "machine_info": {}}', "not as its program writes it"),
    ],
)
def test_another_file_is_said_to_be_one(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        compare(file, file)
    assert str(file) in str(caught.value)


def test_files_of_different_kinds_are_not_compared(tmp_path: Path) -> None:
    write_results(scaled(1), tmp_path / "a.json")
    other = {"benchmarks": [], "machine_info": {}}
    (tmp_path / "b.json").write_text(json.dumps(other))
    with pytest.raises(InvalidInput, match=r"of one kind.*a\.json is of results, .*b\.json is of"):
        compare(tmp_path / "a.json", tmp_path / "b.json")


# The command


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, factor in {"a": 1, "b": 1.0, "slow": 1.3}.items():
        write_results(scaled(factor), tmp_path / f"{name}.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prints_a_table(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", "a.json", "slow.json"]) == 0
    out = capsys.readouterr().out
    assert "a (baseline): a.json" in out
    assert "everywhere: model mlp, target inproc, scenario closed" in out
    assert "worse: p50 in 2 of 2, most: 1.3" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_exit_status_tells_a_breach_from_an_error(files: Path) -> None:
    command = ["bench", "compare", "a.json", "slow.json", "--fail-if"]
    assert main([*command, "p99 > 1.1x"]) == 3
    assert main([*command, "p99 > 1.4x"]) == 0
    assert main([*command, "p99 > 1.4"]) == 1


def test_the_command_writes_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", "a.json,b.json", "slow.json", "--json", "out.json"]) == 0
    capsys.readouterr()
    assert main(["bench", "compare", "x=a.json,b.json", "y=slow.json", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [side["label"] for side in made["sides"]] == ["x", "y"]
    assert made["sides"][0]["files"] == ["a.json", "b.json"]
    assert made["rows"][0].keys() >= {"figure", "before", "after", "ratio", "ci", "p", "verdict"}
    assert main(["bench", "compare", "x=a.json", "y=slow.json", "x=b.json", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == made["rows"]
    written = json.loads((files / "out.json").read_text())
    assert written["sides"][0]["label"] == "a+b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json"], "expected at least two sides, or --by FIELD"),
        (["a.json", "--by", "rows"], "several values (concurrency), got 'rows'"),
        (["a.json", "gone.json"], "gone.json: No such file"),
        (["x=a.json", "b.json"], "LABEL=FILE on all sides or none, got 'b.json'"),
        (["x=a.json", "x=b.json"], "expected at least two sides"),
        (["a.json", "b.json", "--figures", "p98"], "figures: expected a figure among"),
        (["a.json", "b.json", "--run-to-run", "200"], "run_to_run: expected a share"),
        (
            ["a.json", "b.json", "--json", "no/where.json"],
            "expected a file in a folder that exists",
        ),
    ],
)
def test_the_command_says_what_is_wrong(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["bench", "compare", *arguments]) == 1
    assert message in capsys.readouterr().err


# Frames


def test_results_and_comparisons_become_frames() -> None:
    pytest.importorskip("pandas")
    frame = to_frame(scaled(1))
    assert list(frame["concurrency"]) == [1, 8]
    assert {"p99_us", "p99_us_low", "p99_us_high", "is_steady"} <= set(frame)
    assert len(to_frame(scaled(1), by_repetition=True)) == 2 * len(EXACTLY)
    rows = compare(scaled(1), scaled(1.2)).to_frame()
    assert set(rows["verdict"]) == {"worse"}


def test_without_pandas_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(Unavailable, match="pip install pandas"):
        to_frame(scaled(1))
