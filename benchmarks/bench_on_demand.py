"""What loading on demand costs a call of a model that is loaded: nanoseconds, in turns.

Each call of a model in a repository with a memory budget, that its first request has loaded, is
measured beside the same call of the same model in a plain Runtime.

python benchmarks/bench_on_demand.py [TURNS]: prints one JSON line.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime import ModelOptions, Runtime
from pyruntime.frontends import protocol
from pyruntime.frontends.grpc_infer import model_infer
from pyruntime.repository import ModelRepository, RepositoryOptions

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = Path(__file__).resolve().parents[1] / "tests" / "models" / "identity_f32.onnx"
CALLS = 200


class Context:
    """A call without a client behind it."""

    def add_callback(self, callback: object) -> bool:
        """Never call it."""
        return True

    def time_remaining(self) -> float:
        """Have no deadline."""
        return 1e9


def calls_of(runtime: Runtime, bring_in: Any) -> dict[str, Callable[[], object]]:
    """Ways of calling model "m"."""
    model = runtime.model("m")
    (spec,) = model.inputs
    row = np.ones([max(size, 1) for size in spec.shape], spec.dtype)
    message = protocol.message_class("ModelInferRequest")(model_name="m")
    message.inputs.add(name=spec.name, datatype="FP32", shape=row.shape)
    message.raw_input_contents.append(row.tobytes())
    request, registry, context = message.SerializeToString(), runtime._native, Context()
    return {
        "infer": lambda: model.infer({spec.name: row}),
        "model_and_infer": lambda: runtime.model("m").infer({spec.name: row}),
        "ModelInfer": lambda: model_infer(registry, request, context, None, bring_in),
    }


def ns_each(call: Callable[[], object]) -> float:
    """Time some calls."""
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - start) / CALLS


def lease(repository: ModelRepository) -> None:
    """What only a request pays that has found nothing loaded."""
    found = repository.bring_in("m")
    assert found is not None
    with found:
        pass


def main(turns: int) -> None:
    """Measure both sides of each call in turns."""
    with tempfile.TemporaryDirectory() as folder, Runtime() as plain:
        root = Path(folder).resolve()
        (root / "m" / "1").mkdir(parents=True)
        shutil.copy(MODEL, root / "m" / "1" / "model.onnx")
        plain.load("m", MODEL, options=ModelOptions())
        options = RepositoryOptions(on_demand=True, memory_budget_bytes=1 << 30)
        with ModelRepository(root, options=options) as repository:
            repository.model("m")
            sides = {
                "plain": calls_of(plain, None),
                "on_demand": calls_of(repository.runtime, repository.bring_in),
            }
            figures = {}
            for name in sides["plain"]:
                taken: dict[str, list[float]] = {side: [] for side in sides}
                for turn in range(turns):
                    for side in sorted(sides, reverse=bool(turn % 2)):
                        taken[side].append(ns_each(sides[side][name]))
                both = zip(taken["on_demand"], taken["plain"], strict=True)
                figures[name] = {
                    "plain_ns": round(statistics.median(taken["plain"])),
                    "more_ns": round(statistics.median(one - other for one, other in both)),
                }
            lease_ns = statistics.median(ns_each(lambda: lease(repository)) for _ in range(turns))
    print(
        json.dumps(
            {
                "benchmark": "on_demand",
                "cores": os.cpu_count(),
                "turns": turns,
                **figures,
                "lease_ns": round(lease_ns),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
