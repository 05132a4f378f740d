"""Models that the Python tests run, and what ONNX Runtime's own module says of them."""

from pathlib import Path
from typing import Any

import numpy as np

from pyruntime import Batching, ModelOptions, TensorSpec

FOLDER = Path(__file__).parent / "models"


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.onnx"


def reference(name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Outputs of ONNX Runtime's own Python module."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path_of(name).read_bytes(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def echo(
    dtype: str = "float32",
    shape: tuple[int, ...] = (-1, 4),
    *,
    delay_us: int = 0,
    fail_value: float | None = None,
    **batching: int,
) -> ModelOptions:
    """An engine that returns input "x" as "output_0"."""
    config = {"echo.delay_us": str(delay_us)} if delay_us else {}
    if fail_value is not None:
        config["echo.fail_value"] = str(fail_value)
    return ModelOptions(
        engine="echo",
        echo_inputs=(TensorSpec("x", dtype, shape),),
        batching=Batching(**batching),
        config=config,
    )


def rows(value: float, count: int = 1) -> dict[str, np.ndarray]:
    """Input of echo()."""
    return {"x": np.full((count, 4), value, np.float32)}
