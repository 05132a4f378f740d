"""`bench run --rounds`: processes that each measure everything, and what is made of them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from results_for_tests import measurement, noisy, results

from pyruntime.bench import compare, run, to_frame
from pyruntime.bench.events import Finished, Planned, RoundBegun
from pyruntime.bench.files import from_json, read_results
from pyruntime.bench.how import How
from pyruntime.bench.merging import Round, merge_rounds
from pyruntime.bench.results import Results, Skipped
from pyruntime.bench.results_text import results_text
from pyruntime.errors import InvalidInput

pytest.importorskip("onnxruntime")
pytest.importorskip("psutil")

IDENTITY = Path(__file__).parents[1] / "models" / "identity_f32.onnx"
SHORT = {"seconds": 0.3, "repetition_s": 0.02}


def rounds(*medians_us: float, seed: int = 0, **fields: object) -> Results:
    """What processes measured of one configuration: medians that scatter by 0.1 % within each."""
    rng = np.random.default_rng(seed)
    each = [results(measurement(noisy(rng, us, sd=0.001), **fields)) for us in medians_us]
    return merge_rounds([Round(i, one, True) for i, one in enumerate(each, 1)], How())


# What is made of them


def test_the_interval_of_rounds_knows_what_changes_between_processes() -> None:
    (one,) = rounds(100, 102, 98, 101, 99).measurements
    low, high = one.ci["p50_us"]
    assert one.figures["p50_us"] == pytest.approx(100, rel=2e-3)
    # Student's, of five: 2.78 * 1.58 / sqrt(5).
    assert (high - low) / 2 == pytest.approx(1.97, rel=0.1)
    assert one.is_steady
    assert list(one.rounds) == [1, 2, 3, 4, 5]
    assert {each.round for each in one.repetitions} == {1, 2, 3, 4, 5}


def test_rounds_that_are_too_few_or_too_far_apart_say_so() -> None:
    (one,) = rounds(100, 120, 80).measurements
    assert not one.is_steady
    assert "p50_us is known to ±" in one.warnings[-1]
    assert "from 3 rounds, asked for ±3.0%; more --rounds would tell more" in one.warnings[-1]


def test_a_point_that_a_round_lacks_is_incomplete_and_named() -> None:
    good = results(measurement([100.0] * 6))
    place = good.measurements[0].configuration
    bad = results(skipped=(Skipped(place, "it was gone"),))
    merged = merge_rounds([Round(1, good, True), Round(2, bad, True)], How())
    (one,) = merged.measurements
    assert not one.is_complete
    assert "round 2: not measured: it was gone" in one.warnings
    # While it has not come to that point, nothing is missing.
    going_on = merge_rounds([Round(1, good, True), Round(2, results(), False)], How())
    assert going_on.measurements[0].is_complete
    nowhere = merge_rounds([Round(1, bad, True), Round(2, bad, True)], How())
    assert nowhere.skipped == (Skipped(place, "it was gone"),)


def test_what_was_searched_for_is_averaged_too() -> None:
    def found(rate: float) -> Results:
        one = measurement([100.0] * 6, slo="p99=1ms")
        return results(dataclasses.replace(one, figures={**one.figures, "max_rate_per_s": rate}))

    (one,) = merge_rounds(
        [Round(1, found(90), True), Round(2, found(110), True)], How()
    ).measurements
    assert one.figures["max_rate_per_s"] == pytest.approx(math.sqrt(90 * 110))


def test_warnings_that_differ_in_numbers_alone_are_said_once() -> None:
    each = [results(measurement([100.0] * 6, warnings=(f"late by {n} us",))) for n in (3, 45, 7)]
    merged = merge_rounds([Round(i, one, True) for i, one in enumerate(each, 1)], How())
    assert merged.measurements[0].warnings == ("round 1 (and alike in 2 more): late by 3 us",)


def test_compare_takes_each_round_for_a_run() -> None:
    before = rounds(100, 102, 98, 101, 99)
    # A single run of the same would be allowed 0.75 %, and find this.
    assert {row.verdict for row in compare(before, rounds(101.5, 104, 99, 102, 100)).rows} == {
        "no difference"
    }
    found = compare(before, rounds(110, 112, 108, 111, 109), figures=["p50_us"])
    assert found.rows[0].verdict == "worse"
    assert not any("tells nothing of the next" in text for text in found.warnings)
    read = from_json(json.loads(json.dumps(before.to_json())))
    assert compare(read, before, figures=["p50_us"]).rows[0].ratio == pytest.approx(1)


def test_frames_name_the_round_of_each_repetition() -> None:
    pytest.importorskip("pandas")
    merged = rounds(100, 101)
    assert to_frame(merged)["rounds"].tolist() == [2]
    assert sorted(set(to_frame(merged, by_repetition=True)["round"])) == [1, 2]


# Processes


def test_every_round_measures_everything_in_a_process_of_its_own(tmp_path: Path) -> None:
    events, file = [], tmp_path / "rounds.json"
    merged = run(IDENTITY, concurrency=(1, 2), rounds=2, save=file, on_event=events.append, **SHORT)
    assert [sorted(one.rounds) for one in merged.measurements] == [[1, 2], [1, 2]]
    assert all(one.is_complete for one in merged.measurements)
    assert merged.fingerprint["options"]["rounds"] == 2
    assert read_results(file) == merged
    kinds = [type(event) for event in events]
    assert kinds[:2] == [RoundBegun, Planned]
    assert kinds.count(Planned) == 1
    assert events[1].points == 4
    assert kinds.count(Finished) == 4
    assert "2 processes" in results_text(merged)


def test_a_round_that_dies_leaves_the_others(tmp_path: Path) -> None:
    import psutil

    def kill(event: object) -> None:
        if isinstance(event, Finished) and event.measurement.configuration.concurrency == 1:
            child = psutil.Process().children()
            if killed:
                return
            killed.append(os.kill(child[0].pid, signal.SIGKILL))

    killed: list[None] = []
    file = tmp_path / "rounds.json"
    # The second point lasts for as long as it takes to be killed.
    merged = run(
        IDENTITY, concurrency=(1, 2), rounds=2, save=file, on_event=kill, seconds=0.5, within=1e-9
    )
    first, second = merged.measurements
    assert sorted(first.rounds) == [1, 2]
    assert 2 in second.rounds
    assert not second.is_complete
    assert any("the process was ended by SIGKILL" in text for text in merged.warnings)
    assert read_results(file) == merged


def test_an_interrupted_round_is_ended_and_what_was_measured_kept(tmp_path: Path) -> None:
    import psutil

    def interrupt(event: object) -> None:
        if isinstance(event, Finished):
            raise KeyboardInterrupt

    file = tmp_path / "rounds.json"
    with pytest.raises(KeyboardInterrupt):
        run(IDENTITY, rounds=2, save=file, on_event=interrupt, **SHORT)
    assert len(read_results(file).measurements) == 1
    assert not [one for one in psutil.Process().children() if "rounds" in " ".join(one.cmdline())]


def test_the_callers_mistakes_come_from_the_first_round() -> None:
    with pytest.raises(InvalidInput, match="rows: expected 1, since"):
        run(IDENTITY.parent / "static_batch.onnx", rows=(2,), rounds=2, **SHORT)
    with pytest.raises(InvalidInput, match="rounds: expected at least 1, got 0"):
        run(IDENTITY, rounds=0)
    with pytest.raises(InvalidInput, match="rounds: a server stays the same process"):
        run("m", target="grpc://127.0.0.1:1", rounds=2)
