"""Runs requests through a version before anybody sees it."""

from __future__ import annotations

import math
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime.config.model import WarmUp
from pyruntime.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pyruntime.config.model import ModelConfig, WarmUpRequest
    from pyruntime.model import Model
    from pyruntime.tensors import TensorSpec

__all__ = ["run"]

Array = np.ndarray[Any, Any]
Inputs = dict[str, Any]

# Of models that say nothing of it: it should not be felt.
DEFAULT = WarmUp(runs=2, limit_s=0.3)

# A size that makes a row so much cheaper is worth knowing.
_WORTH = 0.95


def run(model: Model, config: ModelConfig, folder: Path) -> None:
    """Run all that `config` asks for. folder: the model's.

    Raises InvalidInput for what the model does not take, and what the runs raise.
    """
    wanted = config.warm_up if config.warm_up is not None else DEFAULT
    for inputs in _recorded(wanted, folder):
        model._warm_up_with(inputs, wanted.runs)
    for given in wanted.tensors:
        model._warm_up_with(_given(model, given), wanted.runs)
    for request in config.requests:
        model._warm_up_with(_asked(request), request.runs)
    if wanted.rows == "auto" and (config.warm_up is None and config.requests):
        return
    for shapes in wanted.shapes or ({},):
        _check_names(model, shapes)
        for data in wanted.data:
            _run_sizes(model, wanted, shapes, data)


def _run_sizes(
    model: Model, wanted: WarmUp, shapes: Mapping[str, tuple[int, ...]], data: str
) -> None:
    """Run made-up requests of the rows that matter."""

    def run_once(rows: int) -> float:
        if not shapes and data == "zeros":
            # With the sizes to which requests are padded.
            return model._warm_up_rows(rows, wanted.runs)
        return model._warm_up_with(_made_up(model, rows, shapes, data), wanted.runs)

    if wanted.rows != "auto":
        for rows in wanted.rows if model.is_batchable else wanted.rows[:1]:
            run_once(rows)
        return
    most = model.options.batching.most_rows if model.is_batchable else 1
    spent_s = 0.0
    best = math.inf  # seconds a row
    for rows in (2**i for i in range(most.bit_length())):
        took_s = run_once(rows)
        spent_s += took_s
        cost = took_s / rows
        if cost > _WORTH * best or spent_s > wanted.limit_s:
            return
        best = cost


def _made_up(
    model: Model, rows: int, shapes: Mapping[str, tuple[int, ...]], data: str
) -> dict[str, Array]:
    random = np.random.default_rng(rows)
    inputs = {}
    for spec in model.inputs:
        skip = 1 if model.is_batchable else 0
        tail = shapes.get(spec.name) or tuple(max(n, 1) if n else 0 for n in spec.shape[skip:])
        shape = (rows, *tail) if model.is_batchable else tuple(tail)
        inputs[spec.name] = _fill(spec.dtype, shape, data, random)
    return inputs


def _fill(dtype: str, shape: tuple[int, ...], data: str, random: np.random.Generator) -> Array:
    if dtype == "string":
        texts = np.full(math.prod(shape), "", dtype=object)
        if data == "random":
            texts[:] = [f"{number:x}" for number in random.integers(0, 2**32, texts.size)]
        return texts.reshape(shape)
    if dtype == "bfloat16":  # by its bits, which need no further package
        values = _fill("float32", shape, data, random)
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    if data == "zeros":
        return np.zeros(shape, dtype)
    if dtype.startswith("float"):
        return random.standard_normal(shape).astype(dtype)
    # 0 and 1 are indices of whatever they may be used to look up.
    return random.integers(0, 2, shape).astype(dtype)


def _given(model: Model, given: Mapping[str, Any]) -> Inputs:
    _check_names(model, given)
    specs = {spec.name: spec for spec in model.inputs}
    return {name: _as_array(specs[name], value) for name, value in given.items()}


def _as_array(spec: TensorSpec, value: Any) -> Any:
    try:
        return np.array(value, dtype=object if spec.dtype == "string" else spec.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"input '{spec.name}': expected {spec}: {error}") from None


def _asked(request: WarmUpRequest) -> dict[str, Array]:
    random = np.random.default_rng(0)
    inputs = {}
    for name, (dtype, shape, data) in request.inputs.items():
        if isinstance(data, str):
            inputs[name] = _fill(dtype, shape, data, random)
            continue
        where = f"warm-up '{request.name}': input '{name}': {data}"
        try:
            raw = data.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{where}: {error.strerror}") from None
        inputs[name] = _from_raw(raw, dtype, shape, where)
    return inputs


def _from_raw(raw: bytes, dtype: str, shape: tuple[int, ...], where: str) -> Array:
    """Read a tensor as it is on the wire."""
    if dtype == "string":
        texts = np.empty(math.prod(shape), dtype=object)
        at = 0
        for index in range(texts.size):
            size = int.from_bytes(raw[at : at + 4], "little")
            texts[index] = raw[at + 4 : at + 4 + size]
            at += 4 + size
        if at != len(raw):
            raise InvalidInput(f"{where}: expected {texts.size} strings with their lengths")
        return texts.reshape(shape)
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    if len(raw) != math.prod(shape) * stored.itemsize:
        raise InvalidInput(
            f"{where}: expected {math.prod(shape) * stored.itemsize} bytes, got {len(raw)}"
        )
    return np.frombuffer(raw, stored).reshape(shape)


def _recorded(wanted: WarmUp, folder: Path) -> Iterator[Inputs]:
    for pattern in wanted.recorded:
        try:
            paths = sorted(folder.glob(pattern))
        except (NotImplementedError, ValueError) as error:
            raise InvalidInput(f"warm_up.recorded: {pattern!r}: {error}") from None
        if not paths:
            raise InvalidInput(f"warm_up.recorded: {pattern!r}: expected files in {folder}")
        for path in paths:
            if not path.resolve().is_relative_to(folder.resolve()):
                raise InvalidInput(f"warm_up.recorded: {path} leads out of the model's folder")
            if not zipfile.is_zipfile(path):
                raise InvalidInput(f"{path}: expected an .npz file of inputs, got another kind")
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    yield {name: arrays[name] for name in arrays.files}
            except (OSError, ValueError, AttributeError, EOFError) as error:
                raise InvalidInput(f"{path}: expected an .npz file of inputs: {error}") from None


def _check_names(model: Model, named: Mapping[str, Any]) -> None:
    known = [spec.name for spec in model.inputs]
    for name in named:
        if name not in known:
            expected = ", ".join(map(repr, known))
            raise InvalidInput(f"input {name!r} is unknown: expected {expected}")
