"""What a version runs before it is served, as its model.toml says, and what becomes of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from repositories import MODELS, add

from pyruntime import InvalidInput, PyRuntimeError
from pyruntime.model import Model
from pyruntime.repository import ModelRepository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GATHER = MODELS / "gather_row.onnx"  # fails on an index from 3 on
SPLIT = MODELS / "split_in_three.onnx"  # takes a width of 6 alone, though it says any


class Runs:
    """What was run: inputs, or rows of zeros, and how often; whether it was served by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inputs: list[tuple[Mapping[str, Any], int]] = []
        self.rows: list[tuple[int, int]] = []
        self.served: list[int] = []
        with_inputs, with_rows = Model._warm_up_with, Model._warm_up_rows

        def note_inputs(model: Model, inputs: Mapping[str, Any], runs: int) -> float:
            self._note(model)
            self.inputs.append((inputs, runs))
            return with_inputs(model, inputs, runs)

        def note_rows(model: Model, rows: int, runs: int) -> float:
            self._note(model)
            self.rows.append((rows, runs))
            return with_rows(model, rows, runs)

        monkeypatch.setattr(Model, "_warm_up_with", note_inputs)
        monkeypatch.setattr(Model, "_warm_up_rows", note_rows)

    def _note(self, model: Model) -> None:
        self.served += [one.version for one in model._runtime.models() if one.name == model.name]

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        return [inputs[name].shape for inputs, _ in self.inputs]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


def configure(root: Path, text: str, source: Path = SPLIT) -> None:
    add(root, "m", 1, source)
    (root / "m" / "model.toml").write_text(text)


def test_recorded_and_given_requests_are_run_before_a_version_is_served(
    tmp_path: Path, runs: Runs
) -> None:
    configure(
        tmp_path,
        "[warm_up]\nrows = []\nruns = 3\nrecorded = ['recorded/*.npz']\n"
        "tensors = [{ index = [2, 1] }]\n",
        GATHER,
    )
    (tmp_path / "m" / "recorded").mkdir()
    for name, value in (("a", 0), ("b", 1)):
        np.savez(tmp_path / "m" / "recorded" / name, index=np.array([value], np.int64))
    with ModelRepository(tmp_path) as repository:
        assert [(list(one["index"]), often) for one, often in runs.inputs] == [
            ([0], 3),
            ([1], 3),
            ([2, 1], 3),
        ]
        assert runs.served == []
        assert repository.runtime.model("m").stats().accepted == 0


def test_made_up_requests_have_the_shapes_rows_and_data_that_are_asked_for(
    tmp_path: Path, runs: Runs
) -> None:
    configure(
        tmp_path,
        "[warm_up]\nrows = [1, 4]\ndata = ['zeros', 'random']\nshapes = [{ x = [6] }]\nruns = 1\n",
    )
    with ModelRepository(tmp_path):
        assert runs.shapes("x") == [(1, 6), (4, 6)] * 2
        zeros = [not inputs["x"].any() for inputs, _ in runs.inputs]
        assert zeros == [True, True, False, False]


def test_sizes_of_zeros_grow_while_a_row_gets_cheaper(tmp_path: Path, runs: Runs) -> None:
    configure(tmp_path, "[warm_up]\nruns = 1\n", MODELS / "mlp_64_256_256_10.onnx")
    with ModelRepository(tmp_path):
        sizes = [rows for rows, _ in runs.rows]
        assert sizes == [2**i for i in range(len(sizes))]
        assert len(sizes) >= 2


@pytest.mark.parametrize(
    ("warm_up", "said"),
    [
        ("tensors = [{ index = [7] }]", "indices element out of data bounds, idx=7"),
        ("tensors = [{ place = [0] }]", "warm-up: input 'place' is unknown: expected 'index'"),
        ("tensors = [{ index = ['one'] }]", "warm-up: input 'index': expected int64[*]"),
        ("recorded = ['none/*.npz']", "warm_up.recorded: 'none/*.npz': expected files in"),
        ("recorded = ['model.toml']", "model.toml: expected an .npz file of inputs, got another"),
        ("recorded = ['../m/*/model.onnx']", "expected an .npz file of inputs, got another"),
    ],
)
def test_a_warm_up_that_fails_leaves_the_version_before(
    tmp_path: Path, warm_up: str, said: str
) -> None:
    add(tmp_path, "m", 1, GATHER)
    with ModelRepository(tmp_path) as repository:
        add(tmp_path, "m", 2, GATHER)
        (tmp_path / "m" / "model.toml").write_text(f"[warm_up]\n{warm_up}\n")
        with pytest.raises(PyRuntimeError, match="model 'm' version 2: warm-up: ") as caught:
            repository.load("m")
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        model = repository.runtime.model("m")
        assert model.version == 1
        assert model.infer({"index": np.zeros(1, np.int64)})["row"].shape == (1, 2)
        statuses = {one.version: one for one in repository.index()}
        assert statuses["2"].is_failed
        assert statuses["2"].reason.startswith("warm-up: ")


def test_a_warm_up_that_nobody_asked_for_may_fail(tmp_path: Path) -> None:
    configure(tmp_path, "")
    with ModelRepository(tmp_path) as repository:
        (status,) = repository.index()
        assert status.state == "READY"
        assert status.reason.startswith("not warmed up: ")
        with pytest.raises(PyRuntimeError):
            repository.runtime.model("m").infer({"x": np.zeros((1, 1), np.float32)})


def test_what_leads_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.npz"
    np.savez(outside, index=np.zeros(1, np.int64))
    root = tmp_path / "models"
    configure(root, "[warm_up]\nrecorded = ['link.npz']\n", GATHER)
    (root / "m" / "link.npz").symlink_to(outside)
    with ModelRepository(root) as repository:
        assert "leads out of the model's folder" in repository.index()[0].reason
        with pytest.raises(InvalidInput, match="leads out of the model's folder"):
            repository.load("m")
