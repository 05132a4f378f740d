"""Tuning: what is tried, what wins, and what is written."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pyruntime.bench import tune
from pyruntime.bench.choices import COUNT, MAX_ROWS, THREADS, apply, choices, parse_tries
from pyruntime.bench.halving import Arm, Record, halve, take_turns
from pyruntime.bench.histogram import Histogram
from pyruntime.bench.load.target import LoadResult
from pyruntime.bench.model_toml import changed_toml, toml_beside
from pyruntime.bench.tuning_text import tuning_text
from pyruntime.cli import main
from pyruntime.config import InstanceGroup, ModelOptions, ProviderOptions
from pyruntime.errors import EngineError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = Path(__file__).parent / "models"
MLP = MODELS / "mlp_64_256_256_10.onnx"
tuning = importlib.import_module("pyruntime.bench.tuning")


def seen(per_s: float, latency_us: float, seconds: float, errors: int = 0) -> LoadResult:
    times_ns = np.full(max(1, int(per_s * seconds)), int(1e3 * latency_us))
    failed = {"Overloaded": errors} if errors else {}
    return LoadResult(seconds, len(times_ns), Histogram.of_ns(times_ns), errors=failed)


def by_rate(record: Record) -> tuple[bool, float]:
    return True, record.per_s


@dataclass
class Machine:
    """Arms whose rates are known; time passes only while they are measured."""

    rates: dict[Arm, float]
    noise: float = 0.05
    now: float = 0.0
    log: list[Arm] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def measure(self, arm: Arm, seconds: float) -> LoadResult:
        self.now += seconds
        self.log.append(arm)
        return seen(self.rates[arm] * self.rng.lognormal(0, self.noise), 100, seconds)

    def clock(self) -> float:
        return self.now


# The search


def test_the_best_arm_is_found_among_many() -> None:
    arms = [Arm(choice, load) for choice in range(32) for load in (1, 4)]
    machine = Machine({arm: 1000 + 20 * arm.choice + arm.in_flight for arm in arms})
    found = halve(
        arms,
        machine.measure,
        by_rate,
        seconds=60,
        finalists=3,
        kept=0,
        clock=machine.clock,
    )
    assert len(found) == len(arms)
    assert found[0].arm.choice >= 30
    assert machine.now <= 1.3 * 60
    # Most of the time went to those that matter.
    assert found[0].seconds > 10 * found[-1].seconds


def test_a_round_measures_all_that_are_left_in_another_order() -> None:
    arms = [Arm(choice, 1) for choice in range(16)]
    machine = Machine({arm: 1000.0 + arm.choice for arm in arms})
    halve(arms, machine.measure, by_rate, seconds=30, finalists=4, kept=0, clock=machine.clock)
    first, second = machine.log[:16], machine.log[16:24]
    assert set(first) == set(arms)
    assert first != arms
    assert len(set(second)) == 8
    assert [a for a in first if a in second] != second


def test_the_kept_choice_stays_in_the_race_however_slow() -> None:
    arms = [Arm(choice, load) for choice in range(16) for load in (1, 2)]
    machine = Machine({arm: 1.0 if arm.choice == 0 else 1000.0 + arm.choice for arm in arms})
    found = halve(
        arms, machine.measure, by_rate, seconds=30, finalists=2, kept=0, clock=machine.clock
    )
    rounds = Counter(machine.log)
    assert max(rounds[Arm(0, 1)], rounds[Arm(0, 2)]) == max(rounds.values())
    assert 0 in {record.arm.choice for record in found[:4]}


def test_arms_that_fail_are_kept_with_their_reason() -> None:
    def measure(arm: Arm, seconds: float) -> LoadResult:
        if arm.choice == 2:
            raise EngineError("no such kernel\nsecond line")
        return seen(100, 100, seconds)

    found = halve(
        [Arm(i, 1) for i in range(8)], measure, by_rate, seconds=0.01, finalists=2, kept=0
    )
    problems = {record.arm.choice: record.problem for record in found if record.problem}
    assert problems == {2: "no such kernel"}


def test_turns_go_around_so_that_noise_hits_all() -> None:
    arms = [Arm(choice, 1) for choice in range(3)]
    machine = Machine(dict.fromkeys(arms, 1000.0))
    records = take_turns(arms, machine.measure, seconds=10, fewest=10, clock=machine.clock)
    turns = [machine.log[i : i + 3] for i in range(0, len(machine.log), 3)]
    assert all(set(turn) == set(arms) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert min(len(record.slices) for record in records) >= 10


def test_a_promise_is_broken_by_latency_and_by_errors() -> None:
    fast = Record(Arm(0, 1), [seen(1000, 90, 1)])
    assert fast.keeps(0.99, 100)
    assert not fast.keeps(0.99, 80)
    assert not Record(Arm(0, 1), [seen(1000, 90, 1, errors=9)]).keeps(0.99, 100)
    assert not Record(Arm(0, 1), []).keeps(0.99, 100)


# What is tried


def found_choices(base: ModelOptions | None = None, **fields: Any) -> list[Any]:
    asked = {"threads": None, "instances": None, "max_rows": None, "tries": {}, **fields}
    asked = {"cores": 4, "is_batchable": True, **asked}
    return choices(base or ModelOptions(), **asked)


def test_choices_suit_the_machine_and_begin_with_what_is_there() -> None:
    base = ModelOptions(intra_op_threads=2)
    found = found_choices(base)
    assert (found[0].changes, found[0].options) == ({}, base)
    assert len({repr(choice.options) for choice in found}) == len(found)
    for choice in found[1:]:
        threads, count = choice.options.intra_op_threads, choice.options.instances[0].count
        assert threads * count <= 4
        assert apply(base, choice.changes) == choice.options
        assert set(choice.changes) <= {THREADS, COUNT, MAX_ROWS}
    assert {c.options.batching.max_rows for c in found} == {"auto", 1, 4, 16, 64}
    assert all(MAX_ROWS not in c.changes for c in found_choices(is_batchable=False))


def test_given_values_are_tried_as_they_are() -> None:
    found = found_choices(threads=(1, 8), instances=(3,), max_rows=(2,))
    assert len(found) == 3  # what is there, and two threads with three instances each
    assert {c.options.intra_op_threads for c in found[1:]} == {1, 8}


def test_several_groups_of_instances_are_left_as_they_are() -> None:
    groups = (InstanceGroup("cpu"), InstanceGroup("simulated:0"))
    assert all(COUNT not in c.changes for c in found_choices(ModelOptions(instances=groups)))


def test_a_gpus_provider_brings_options_of_its_own() -> None:
    base = ModelOptions(instances=(InstanceGroup("cuda:0"),))
    keys = {key for choice in found_choices(base) for key in choice.changes}
    assert "providers.cuda.cudnn_conv_algo_search" in keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("allow_spinning=true,false", {"allow_spinning": [True, False]}),
        ("batching.max_delay_us=0,50", {"batching.max_delay_us": [0, 50]}),
        ("graph_optimization=basic", {"graph_optimization": ["basic"]}),
        ("config.session.a.b=0,1", {"config.session.a.b": [0, 1]}),
        ("providers.cpu.x=A", {"providers.cpu.x": ["A"]}),
    ],
)
def test_further_keys_can_be_tried(text: str, expected: dict[str, Any]) -> None:
    tries = parse_tries([text], ModelOptions())
    assert tries == expected
    ((key, values),) = tries.items()
    apply(ModelOptions(), {key: values[0]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threads=2", "try 'threads=2': expected KEY=VALUE"),
        ("instances=2", "expected KEY=VALUE"),
        ("allow_spinning", "expected KEY=VALUE"),
        ("allow_spinning=true,", "expected KEY=VALUE"),
        ("allow_spinning=3", "allow_spinning: expected a bool, got 3"),
        ("batching.nothing=3", "expected keys among .*got 'nothing'"),
    ],
)
def test_keys_that_there_are_not_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_tries([text], ModelOptions())


# What is written

WRITTEN = """\
# ours
intra_op_threads = 2  # as on the old machine

[batching]
queue_capacity = 64   # small

[[instances]]
device = "cpu"  # for now
"""


def test_a_file_keeps_its_comments_and_other_keys() -> None:
    pytest.importorskip("tomlkit")
    base = ModelOptions.from_mapping(tomllib.loads(WRITTEN))
    changes = {THREADS: 1, MAX_ROWS: 16, COUNT: 2, "allow_spinning": True}
    text = changed_toml(WRITTEN, changes, apply(base, changes))
    assert ModelOptions.from_mapping(tomllib.loads(text)) == apply(base, changes)
    for kept in (
        "# ours",
        "# as on the old machine",
        "# small",
        "# for now",
        "queue_capacity = 64",
    ):
        assert kept in text
    assert changed_toml(text, changes, apply(base, changes)) == text
    assert changed_toml(WRITTEN, {}, base) == WRITTEN


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (ModelOptions(), {THREADS: 4}),
        (ModelOptions(), {MAX_ROWS: "auto", COUNT: 3}),
        (ModelOptions(), {MAX_ROWS: 8, COUNT: 3, "config.session.x": 1}),
        (ModelOptions(), {"providers.cuda.a": "B", "use_arena": False}),
    ],
)
def test_a_file_is_made_where_there_is_none(base: ModelOptions, changes: dict[str, Any]) -> None:
    pytest.importorskip("tomlkit")
    options = apply(base, changes)
    assert ModelOptions.from_mapping(tomllib.loads(changed_toml("", changes, options))) == options


def test_options_of_a_provider_are_added_to_it() -> None:
    pytest.importorskip("tomlkit")
    text = (
        '[[providers]]\nname = "cuda"\noptions = { a = "1" } # why\n\n[[providers]]\nname = "cpu"\n'
    )
    base = ModelOptions.from_mapping(tomllib.loads(text))
    options = apply(base, {"providers.cuda.b": "2"})
    assert options.providers == (
        ProviderOptions("cuda", {"a": "1", "b": "2"}),
        ProviderOptions("cpu"),
    )
    made = changed_toml(text, {"providers.cuda.b": "2"}, options)
    assert ModelOptions.from_mapping(tomllib.loads(made)) == options
    assert "# why" in made


def test_the_file_of_a_repository_lies_above_its_versions(tmp_path: Path) -> None:
    assert toml_beside(tmp_path / "digits" / "3" / "model.onnx") == tmp_path / "digits/model.toml"
    assert toml_beside(tmp_path / "folder" / "m.onnx") == tmp_path / "folder" / "model.toml"


# All of it, with a model whose speed depends on its options as it is told to


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tomlkit")
    folder = tmp_path / "mlp" / "1"
    folder.mkdir(parents=True)
    return Path(shutil.copy(MLP, folder / "model.onnx"))


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Takes a function of options, requests in flight: requests a second, and microseconds."""

    def set_(of: Callable[[ModelOptions, int], tuple[float, float]]) -> None:
        rng = np.random.default_rng(0)

        class Fake:
            def __init__(self, model: Any, inputs: Any) -> None:
                self._options = model.options

            def closed(self, in_flight: int, seconds: float) -> LoadResult:
                per_s, us = of(self._options, in_flight)
                return seen(per_s * rng.lognormal(0, 0.01), us * rng.lognormal(0, 0.01), seconds)

            def close(self) -> None:
                """Nothing to give back."""

        monkeypatch.setattr(tuning, "InProcess", Fake)

    return set_


def test_what_is_surely_better_is_written(model: Path, speed) -> None:
    speed(lambda o, load: (1e4 * load**0.5 * (1.2 if o.batching.max_rows == 16 else 1), 100 * load))
    found = tune(model, slo="p99=1ms", seconds=0.3, threads=(1,), instances=(1,))
    assert found.best is not None
    assert (found.best.changes, found.best.in_flight) == ({MAX_ROWS: 16}, 4)  # 16 break the promise
    assert found.ratio == pytest.approx(1.2, rel=0.05)
    assert found.ci is not None
    assert 1 < found.ci[0] < found.ratio < found.ci[1]
    assert found.is_better
    assert found.is_written
    written = tomllib.loads((model.parent.parent / "model.toml").read_text())
    assert written == {"batching": {"max_rows": 16}}
    assert "written to" in tuning_text(found)


def test_a_file_that_nothing_beats_is_left_alone(model: Path, speed) -> None:
    file = model.parent.parent / "model.toml"
    file.write_text("[batching]\nmax_rows = 16 # good\n")
    before = file.stat()
    speed(lambda o, load: (1e4 * (1.0 if o.batching.max_rows == 16 else 0.99), 100))
    found = tune(model, slo="p99=1ms", seconds=0.3, threads=(1,), instances=(1,))
    assert not found.is_better
    assert not found.is_written
    assert file.read_text() == "[batching]\nmax_rows = 16 # good\n"
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert "the file is as it was" in tuning_text(found)


def test_equals_are_hardly_ever_told_apart(model: Path, speed) -> None:
    speed(lambda o, load: (1e4, 100))
    better = [
        tune(model, slo="p99=1ms", seconds=0.05, seed=i, threads=(1,), dry_run=True).is_better
        for i in range(5)
    ]
    assert sum(better) == 0


def test_what_keeps_a_broken_promise_wins_though_it_is_slower(model: Path, speed) -> None:
    speed(lambda o, load: (1e4, 2000) if o.batching.max_rows == "auto" else (8e3, 500))
    found = tune(model, slo="p99=1ms", seconds=0.3, threads=(1,), instances=(1,), concurrency=(8,))
    assert found.default is not None
    assert not found.default.keeps
    assert found.is_better
    assert found.ratio == pytest.approx(0.8, rel=0.05)


def test_where_nothing_keeps_the_promise_nothing_is_written(model: Path, speed, capsys) -> None:
    speed(lambda o, load: (1e4, 2000))
    command = ["bench", "tune", str(model), "--slo", "p99=1ms", "--seconds", "0.2"]
    assert main(command) == 3
    assert "nothing that was tried keeps the promise" in capsys.readouterr().out
    assert not (model.parent.parent / "model.toml").exists()


def test_a_dry_run_says_what_it_would_write(model: Path, speed, capsys) -> None:
    speed(lambda o, load: (1e4 * o.intra_op_threads, 100))
    command = ["bench", "tune", str(model), "--slo", "p99=1ms", "--seconds", "0.2", "--dry-run"]
    assert main([*command, "--threads", "1,4", "--instances", "1"]) == 0
    out = capsys.readouterr().out
    assert "intra_op_threads = 4" in out
    assert "not written to" in out
    assert not (model.parent.parent / "model.toml").exists()
    assert main([*command, "--threads", "1,4", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["best"]["changes"][THREADS] == 4


def test_options_that_do_not_load_are_skipped(model: Path, speed) -> None:
    speed(lambda o, load: (1e4, 100))
    found = tune(
        model,
        slo="p99=1ms",
        seconds=0.2,
        threads=(1,),
        instances=(1,),
        max_rows=("auto",),
        tries=["providers.nosuch.x=1"],
        dry_run=True,
    )
    assert len(found.skipped) == 1
    assert "provider 'nosuch'" in found.skipped[0].reason
    assert "! skipped: providers.nosuch.x = 1: " in tuning_text(found)


def test_few_models_are_loaded_where_memory_is_short(model: Path, speed, monkeypatch) -> None:
    speed(lambda o, load: (1e4, 100))
    monkeypatch.setattr(tuning, "_available_bytes", lambda: 1 << 20)
    most = 0
    load = tuning.Runtime.load

    def counted(runtime: Any, *arguments: Any, **fields: Any) -> Any:
        nonlocal most
        made = load(runtime, *arguments, **fields)
        most = max(most, len(runtime.models()))
        return made

    monkeypatch.setattr(tuning.Runtime, "load", counted)
    found = tune(model, slo="p99=1ms", seconds=0.1, threads=(1,), instances=(1,), dry_run=True)
    assert most == 2
    assert {trial.changes.get(MAX_ROWS) for trial in found.trials} == {None, 1, 4, 16, 64}


def test_a_real_model_is_measured(model: Path) -> None:
    found = tune(model, slo="p99=1s", seconds=1, concurrency=(1, 8), threads=(1,), dry_run=True)
    assert found.best is not None
    assert found.best.requests_per_s > 100
    assert 0 < found.best.latency_us < 1e6
    assert all(trial.rounds >= 1 for trial in found.trials)


def test_it_becomes_a_frame(model: Path, speed) -> None:
    pytest.importorskip("pandas")
    speed(lambda o, load: (1e4, 100))
    frame = tune(model, slo="p99=1ms", seconds=0.1, threads=(1,), dry_run=True).to_frame()
    assert {"in_flight", "rows_per_s", MAX_ROWS} <= set(frame)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slo": "p99"}, "slo: expected FIGURE=TIME"),
        ({"seconds": 0}, "seconds: expected more than 0, got 0"),
        ({"concurrency": ()}, "concurrency: expected numbers of at least 1"),
        ({"rows": 0}, "rows: expected at least 1, got 0"),
        ({"tries": ["x"]}, "try 'x'"),
    ],
)
def test_what_makes_no_sense_is_refused(model: Path, fields: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        tune(model, **{"slo": "p99=1ms", **fields})


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(
        InvalidInput, match=r"model 'gone.onnx': expected an .onnx file, got nothing"
    ):
        tune("gone.onnx", slo="p99=1ms")


def test_without_tomlkit_it_is_said_before_the_time_is_spent(model: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    with pytest.raises(Unavailable, match=r"pip install 'pyruntime\[bench\]'"):
        tune(model, slo="p99=1ms", seconds=1000)
