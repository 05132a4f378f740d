"""The overhead ledger: what it holds and says, and what it refuses. How fast things are is not
tested here."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from pyruntime.bench import Ledger, Step, overhead
from pyruntime.bench.engine_steps import PythonRun
from pyruntime.bench.figures import Slice, compare, interval, make_steps
from pyruntime.bench.ledger_text import ledger_text, made_of
from pyruntime.bench.runtime_steps import Infer
from pyruntime.bench.tensors import make_inputs, repeat_rows, why_different
from pyruntime.cli import main
from pyruntime.config import ModelOptions
from pyruntime.errors import EngineError, InvalidInput, Unavailable
from pyruntime.tensors import DTYPES, TensorSpec

MODELS = Path(__file__).parent / "models"
IDENTITY = MODELS / "identity_f32.onnx"
STEPS = [
    "C Run",
    "InferenceSession.run",
    "core",
    "Model.infer",
    "infer_async",
    "gRPC unix",
    "gRPC tcp",
]
measuring = importlib.import_module("pyruntime.bench.measuring")


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where grpcio is absent: what does not concern it need not start a server."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "pyruntime.frontends.protocol", raising=False)
    monkeypatch.delitem(sys.modules, "pyruntime.bench.grpc_steps", raising=False)


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    pytest.importorskip("onnxruntime")
    return overhead(MODELS / "mlp_64_256_256_10.onnx", in_flight=(4,), seconds=1.5, rows=2)


# What it holds


def test_every_step_is_measured_for_every_load_in_the_order_of_the_way(ledger: Ledger) -> None:
    assert [(step.in_flight, step.name) for step in ledger.steps] == [
        (load, name) for load in (1, 4) for name in STEPS
    ]
    assert ledger.skipped == ()
    assert ledger.differences == ()
    assert ledger.turns >= 1


def test_figures_agree_with_each_other(ledger: Ledger) -> None:
    for step in ledger.steps:
        assert 0 < step.p50_us <= step.p99_us
        assert step.rows_per_s == pytest.approx(2e6 / step.us_per_request, rel=0.5)
        for name, (low, high) in step.ci.items():
            assert low <= getattr(step, name) <= high
        assert all(math.isfinite(us) for us in step.parts.values())
    bare = [step for step in ledger.steps if step.name == "C Run"]
    assert all(step.ratio_to_run == 1 and step.delta_us is None for step in bare)


def test_a_step_is_made_of_the_parts_that_it_has(ledger: Ledger) -> None:
    core = {"queue", "gather", "run", "scatter"}
    # What is known of a step, and the name of what is left.
    expected = {
        "C Run": ({"run"}, "run"),
        "InferenceSession.run": ({"run"}, "binding"),
        "core": (core, "scheduling"),
        "Model.infer": ({*core, "scheduling"}, "binding"),
        "infer_async": ({*core, "python"}, "wake-up"),
        "gRPC unix": ({*core, "scheduling", "codec"}, "transport"),
        "gRPC tcp": ({*core, "scheduling", "codec"}, "transport"),
    }
    for step in ledger.steps:
        known, rest = expected[step.name]
        assert {*step.parts} in ({*known, rest}, {*known, "overlap"})


def test_comparisons_are_of_one_caller(ledger: Ledger) -> None:
    assert {item.name for item in ledger.comparisons} == {
        "core_minus_run_us",
        "infer_to_python_run",
    }
    for item in ledger.comparisons:
        assert item.ci[0] <= item.value <= item.ci[1]


def test_bare_engines_run_batches_of_up_to_what_is_in_flight(ledger: Ledger) -> None:
    assert ledger.best_run_rows[1] == 2
    assert ledger.best_run_rows[4] in (2, 4, 8)


def test_the_fingerprint_says_where_and_what(ledger: Ledger) -> None:
    print_ = ledger.fingerprint
    assert print_["cores"] >= len(print_["affinity"]) >= 1
    assert print_["memory_bytes"] > 1 << 20
    assert print_["cpu"]
    assert print_["kernel"]
    assert print_["gpu"] is None or print_["gpu"]["driver"]
    assert {"pyruntime", "python", "onnxruntime", "numpy", "grpcio"} <= {*print_["versions"]}
    assert print_["threads"] == {"intra_op": 1, "inter_op": 1}
    assert print_["provider"] == ["cpu"]
    assert print_["options"]["batching"]["queue_capacity"] == 1024
    assert len(print_["model"]["sha256"]) == 64
    assert print_["request"] == {"rows": 2, "shapes": {"x": [2, 64]}, "seed": 0}


def test_the_report_fits_a_terminal_and_names_every_step(ledger: Ledger) -> None:
    text = ledger_text(ledger)
    assert max(map(len, text.splitlines())) <= 100
    for name in STEPS:
        assert text.count(f"\n{name} ") == 4  # figures and deltas, for each load
    assert "4 IN FLIGHT" in text
    assert "IN SHORT" in text


def test_a_delta_names_what_changed_most_first() -> None:
    before = _step(parts={"run": 5.0, "binding": 3.0})
    step = _step(parts={"run": 5.5, "binding": 0.0, "queue": 1.0})
    assert made_of(step, before) == "binding -3.00, queue +1.00, run +0.50"
    assert made_of(before, None) == "run 5.00, binding 3.00"


# The command


def test_the_command_writes_the_documented_keys(tmp_path, capsys, no_server) -> None:
    file = tmp_path / "ledger.json"
    command = ["bench", "overhead", str(IDENTITY), "--seconds", "0.3", "--in-flight", "1,2"]
    assert main([*command, "--json", str(file)]) == 0
    assert "IN SHORT" in capsys.readouterr().out
    written = json.loads(file.read_text(encoding="utf-8"))
    keys = {"name", "in_flight", "p50_us", "p99_us", "rows_per_s", "ratio_to_run", "ci", "parts"}
    assert all(keys <= {*step} for step in written["steps"])
    assert {step["in_flight"] for step in written["steps"]} == {1, 2}
    assert written["fingerprint"]["model"]["file"] == IDENTITY.name


def test_the_command_prints_json_alone(capsys, no_server) -> None:
    assert main(["bench", "overhead", str(IDENTITY), "--seconds", "0.2", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing.onnx"], "model 'nothing.onnx': expected an .onnx file, got nothing there"),
        ([str(MODELS)], "expected an .onnx file, got a folder"),
        ([__file__], "test_bench_overhead"),
        ([str(IDENTITY), "--rows", "0"], "rows: expected at least 1, got 0"),
        ([str(MODELS / "static_batch.onnx"), "--rows", "2"], "rows: expected 1, since"),
        ([str(IDENTITY), "--seconds", "0"], "seconds: expected more than 0, got 0"),
        ([str(IDENTITY), "--seconds", "nan"], "seconds: expected more than 0, got nan"),
        ([str(IDENTITY), "--in-flight", "0"], "in_flight: expected at least 1, got 0"),
        ([str(IDENTITY), "--in-flight", "9999"], "in_flight: expected at most"),
        ([str(IDENTITY), "--dim", "z=3"], "dim: expected a dynamic dimension (none), got 'z'"),
        (
            [str(IDENTITY), "--json", "/nowhere/at/all.json"],
            "--json /nowhere/at/all.json: exp",
        ),
        ([str(IDENTITY), "--options", "/nowhere.toml"], "/nowhere.toml"),
        ([str(MODELS / "sequence_input.onnx")], "got a sequence"),
    ],
)
def test_mistakes_are_named(arguments, expected, capsys) -> None:
    assert main(["bench", "overhead", *arguments]) == 1
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--in-flight", "a"], ["--dim", "x"], ["--dim", "=3"]])
def test_what_cannot_be_read_is_wrong_usage(arguments, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "overhead", str(IDENTITY), *arguments])
    assert f"argument {arguments[0]}: expected" in capsys.readouterr().err


# What is absent or differs


def test_outputs_that_differ_are_reported(monkeypatch, no_server) -> None:
    right = Infer.outputs
    monkeypatch.setattr(Infer, "outputs", lambda self: [2 * array for array in right(self)])
    ledger = overhead(IDENTITY, in_flight=(1,), seconds=0.2)
    assert len(ledger.differences) == 1
    assert ledger.differences[0].startswith("Model.infer: output 'y': up to")
    assert "! outputs differ from C Run's: Model.infer" in ledger_text(ledger)


def test_without_grpcio_its_steps_are_skipped(no_server) -> None:
    ledger = overhead(IDENTITY, in_flight=(1,), seconds=0.2)
    assert [item.name for item in ledger.skipped] == ["gRPC unix", "gRPC tcp"]
    assert all("grpc is not installed: pip install" in item.reason for item in ledger.skipped)
    assert [step.name for step in ledger.steps] == STEPS[:5]
    assert "! skipped: gRPC tcp: grpc is not installed" in ledger_text(ledger)


def test_without_the_engines_python_module_its_step_is_skipped(monkeypatch, no_server) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ledger = overhead(IDENTITY, in_flight=(1,), seconds=0.2)
    assert ledger.skipped[0].name == PythonRun.name
    assert "pip install 'pyruntime[cpu]'" in ledger.skipped[0].reason
    assert [item.name for item in ledger.comparisons] == ["core_minus_run_us"]
    assert ledger_text(ledger)


def test_a_server_that_cannot_start_is_a_skipped_step(monkeypatch) -> None:
    steps = importlib.import_module("pyruntime.bench.grpc_steps")

    def refuse(self: object) -> None:
        raise Unavailable("no room")

    monkeypatch.setattr(steps.Server, "start", refuse)
    ledger = overhead(IDENTITY, in_flight=(1,), seconds=0.2)
    assert [(item.name, item.reason) for item in ledger.skipped] == [
        ("gRPC unix", "no room"),
        ("gRPC tcp", "no room"),
    ]


def test_a_server_that_fails_says_why(tmp_path) -> None:
    steps = importlib.import_module("pyruntime.bench.grpc_steps")
    server = steps.Server(str(tmp_path / "gone.onnx"), {}, 1)
    try:
        with pytest.raises(Unavailable, match=r"gone\.onnx"):
            server.start()
    finally:
        server.close()


def test_a_failure_of_the_core_is_no_skipped_step(monkeypatch, no_server) -> None:
    def fail(self: object) -> None:
        raise EngineError("broken")

    monkeypatch.setattr(Infer, "outputs", fail)
    with pytest.raises(EngineError, match="broken"):
        overhead(IDENTITY, in_flight=(1,), seconds=0.2)


def test_only_the_onnx_engine_has_a_bare_side() -> None:
    with pytest.raises(InvalidInput, match="engine: expected 'onnx', got 'echo'"):
        overhead(IDENTITY, options=ModelOptions(engine="echo"))


@pytest.mark.parametrize(
    "name", ["identity_string", "identity_bfloat16", "identity_bool", "scalar", "no_inputs"]
)
def test_models_of_all_kinds_can_be_measured(name: str, no_server) -> None:
    ledger = overhead(MODELS / f"{name}.onnx", in_flight=(2,), seconds=0.2)
    assert ledger.differences == ()
    assert {"C Run", "core", "Model.infer", "infer_async"} <= {s.name for s in ledger.steps}


def test_a_model_that_fails_on_guessed_dimensions_says_so(no_server) -> None:
    model = MODELS / "split_in_three.onnx"
    with pytest.raises(EngineError, match=r"split_in_three.*\}; dim.*--dim width=SIZE sets it"):
        overhead(model, in_flight=(2,), seconds=0.2)
    ledger = overhead(model, in_flight=(2,), seconds=0.2, dims={"width": 6})
    assert not [text for text in ledger.warnings if "width" in text]


def test_a_model_that_takes_no_batch_is_run_by_single_requests(monkeypatch, no_server) -> None:
    engine = importlib.import_module("pyruntime.bench.engine_steps")
    bare_run, made = engine._probe.BareRun, []

    def take_no_batch(*arguments: object) -> object:
        if made:
            raise EngineError("too many rows")
        made.append(bare_run(*arguments))
        return made[0]

    monkeypatch.setattr(engine._probe, "BareRun", take_no_batch)
    assert overhead(IDENTITY, in_flight=(4,), seconds=0.2).best_run_rows == {1: 1, 4: 1}


# Its inputs


def test_inputs_are_the_same_for_the_same_seed() -> None:
    specs = [TensorSpec(dtype, dtype, (-1, 3)) for dtype in DTYPES]
    first, _ = make_inputs(specs, rows=4, is_batchable=True, dims={}, seed=1)
    again, _ = make_inputs(specs, rows=4, is_batchable=True, dims={}, seed=1)
    other, _ = make_inputs(specs, rows=4, is_batchable=True, dims={}, seed=2)
    for spec in specs:
        assert first[spec.name].shape == (4, 3)
        assert why_different(spec.name, spec.dtype, first[spec.name], again[spec.name]) is None
    assert why_different("float32", "float32", first["float32"], other["float32"])
    assert repeat_rows(first, 3)["string"].shape == (12, 3)


def test_dynamic_dimensions_are_given_or_taken_as_1_with_a_warning() -> None:
    spec = TensorSpec("ids", "int64", (-1, -1, -1, 5), ("batch", "length", "", ""))
    inputs, warnings = make_inputs(
        [spec], rows=2, is_batchable=True, dims={"length": 7, "ids.2": 3}, seed=0
    )
    assert inputs["ids"].shape == (2, 7, 3, 5)
    assert warnings == []
    inputs, warnings = make_inputs([spec], rows=2, is_batchable=True, dims={}, seed=0)
    assert inputs["ids"].shape == (2, 1, 1, 5)
    assert warnings == [
        f"dimension '{name}' is dynamic and was taken as 1; --dim {name}=SIZE sets it"
        for name in ("length", "ids.2")
    ]
    with pytest.raises(InvalidInput, match=r"\(length, ids\.2\), got 'batch'"):
        make_inputs([spec], rows=2, is_batchable=True, dims={"batch": 7}, seed=0)


def test_what_sets_outputs_apart_is_said() -> None:
    one, two = np.float32([1, 2]), np.float32([1, 2.5])
    assert why_different("y", "float32", one, two) == "output 'y': up to 0.5 apart"
    assert why_different("y", "float32", one, one[:1]) == "output 'y': shape [2] there, [1] here"
    nan = np.float32([np.nan])
    assert why_different("y", "float32", nan, nan) is None
    texts, others = np.array(["a", "b"], object), np.array([b"a", b"c"], object)
    assert why_different("y", "string", texts, others) == "output 'y': 1 of 2 elements differ"


# Its arithmetic


def _slice(us: float, parts: dict[str, float], rest: str) -> Slice:
    times = np.full(10, us * 1e3, np.int64)
    return Slice(10, int(us * 1e4), times, parts, rest)


def _step(parts: dict[str, float]) -> Step:
    return Step("core", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, {"delta_us": (1.0, 1.0)}, parts)


def _turn(load: int, **us: float) -> dict[tuple[str, int], Slice]:
    core = {"queue": 1.0, "gather": 0.5, "run": 4.0, "scatter": 0.5}
    return {
        ("C Run", load): _slice(us["bare"], {"run": us["bare"]}, ""),
        ("core", load): _slice(us["core"], core, "scheduling"),
        ("Model.infer", load): _slice(us["infer"], core, "binding"),
    }


def test_ratios_and_deltas_are_taken_within_a_turn() -> None:
    # A machine that becomes twice as slow changes no ratio.
    turns = [_turn(1, bare=s * 5, core=s * 10, infer=s * 20) for s in (1, 1, 2, 2, 2)]
    bare, core, infer = make_steps(turns, ["C Run", "core", "Model.infer"], 1, rows=3)
    assert (bare.ratio_to_run, core.ratio_to_run, infer.ratio_to_run) == (1, 0.5, 0.25)
    assert core.ci["ratio_to_run"] == (0.5, 0.5)
    assert core.delta_us == 10
    assert core.rows_per_s == pytest.approx(3e6 / 20)
    assert compare("x", turns, "Model.infer", "core", as_ratio=True).value == 2
    assert compare("x", turns, "core", "C Run", as_ratio=False).value == 10


def test_what_is_left_has_a_name() -> None:
    turns = [_turn(1, bare=4, core=7, infer=9)]
    _, core, infer = make_steps(turns, ["C Run", "core", "Model.infer"], 1, rows=1)
    assert core.parts["scheduling"] == 1  # 7 - (1 + 0.5 + 4 + 0.5)
    assert infer.parts["scheduling"] == 1
    assert infer.parts["binding"] == 2
    assert sum(infer.parts.values()) == infer.us_per_request


def test_waiting_in_the_queue_is_no_part_of_the_sum_when_others_run_meanwhile() -> None:
    turns = [_turn(8, bare=4, core=6, infer=4.5)]
    _, core, infer = make_steps(turns, ["C Run", "core", "Model.infer"], 8, rows=1)
    assert core.parts["scheduling"] == 1  # 6 - (0.5 + 4 + 0.5)
    assert infer.parts["overlap"] == -1.5  # two threads worked at once
    assert "binding" not in infer.parts


def test_an_interval_holds_the_median_and_narrows_with_more_turns() -> None:
    rng = np.random.default_rng(0)
    few, many = (interval(rng.normal(10, 1, count)) for count in (8, 200))
    assert few[0] < 10 < few[1]
    assert many[0] < 10 < many[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert interval(np.array([3.0, 1.0, 2.0])) == (1, 3)
