"""What the benchmarks in Python share: models, references of the same run, and the last table."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from side_by_side import Figure, FloorFigure, SideBySide, floor_table, table

import pyruntime
from pyruntime.config import find_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnxruntime

ROOT = Path(__file__).parents[1]
MODELS = {"identity_f32": 16, "mlp_64_256_256_10": 64}  # columns of the input "x"

_figures = pytest.StashKey[list[Figure]]()
_floors = pytest.StashKey[list[FloorFigure]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench-scheduler",
        metavar="FILE",
        type=Path,
        default=ROOT / "build" / "release" / "bench_scheduler",
        help="built from bench_scheduler.cc; measures bare C Run. Default: %(default)s",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_figures] = []
    config.stash[_floors] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash[_figures]
    if figures:
        terminalreporter.section("microseconds per request, beside ONNX Runtime alone")
        terminalreporter.write_line(table(figures))
    if floors := config.stash[_floors]:
        terminalreporter.section("nanoseconds, each floor beside what one would take instead")
        terminalreporter.write_line(floor_table(floors))


@dataclass(frozen=True)
class BenchModel:
    """A model, one row for it, and the engine alone.

    bare: what bench_scheduler printed of it in this run; None: it was not built.
    """

    name: str
    path: Path
    row: dict[str, np.ndarray]
    session: onnxruntime.InferenceSession
    bare: dict[str, float] | None


@pytest.fixture(scope="session", params=MODELS)
def bench_model(request: pytest.FixtureRequest) -> BenchModel:
    import onnxruntime

    name: str = request.param
    path = ROOT / "tests" / "models" / f"{name}.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    row = {"x": np.full((1, MODELS[name]), 0.5, np.float32)}
    bare = _run_bench_scheduler(request.config.getoption("--bench-scheduler"), path)
    return BenchModel(name, path, row, session, bare)


def _run_bench_scheduler(program: Path, model: Path) -> dict[str, float] | None:
    if not program.exists():
        return None
    done = subprocess.run(
        [program, "0", model],  # found by the scheduler, as the default is
        env={"PYRUNTIME_ONNXRUNTIME": find_onnxruntime()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    printed: dict[str, float] = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="session")
def model(bench_model: BenchModel) -> Iterator[pyruntime.Model]:
    with pyruntime.Runtime() as runtime:
        yield runtime.load(bench_model.name, bench_model.path)


@pytest.fixture
def floor_figures(request: pytest.FixtureRequest) -> list[FloorFigure]:
    return request.config.stash[_floors]


@pytest.fixture
def side_by_side(request: pytest.FixtureRequest, benchmark, bench_model) -> SideBySide:
    return SideBySide(benchmark, bench_model, request.config.stash[_figures])
