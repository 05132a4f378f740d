"""Whether a model answers the same however it is run."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime.bench.deviations import Deviation, deviation, tolerance_of
from pyruntime.bench.tensors import Array, Inputs, make_inputs
from pyruntime.bench.variants import KINDS, Variant, make_variants
from pyruntime.config import InstanceGroup, ModelOptions
from pyruntime.devices import devices as list_devices
from pyruntime.errors import EngineError, InvalidInput, PyRuntimeError
from pyruntime.model import Model
from pyruntime.runtime import Runtime

if TYPE_CHECKING:
    import pandas

__all__ = ["Compared", "Parity", "SkippedVariant", "parity"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One variant beside the reference; deviations: of each output."""

    kind: str
    name: str
    deviations: tuple[Deviation, ...]

    @property
    def is_close(self) -> bool:
        """Whether all outputs are within their tolerances."""
        return all(item.is_close for item in self.deviations)


@dataclass(frozen=True, slots=True)
class SkippedVariant:
    """A variant that was not compared, and why."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Parity:
    """The result of `parity`.

    model: the file. reference: how the outputs were made that all others are held against.
    samples, rows: requests, and rows of each. inputs: "random" or a file.
    """

    model: str
    reference: str
    samples: int
    rows: int
    inputs: str
    compared: tuple[Compared, ...]
    skipped: tuple[SkippedVariant, ...]
    warnings: tuple[str, ...]

    @property
    def is_close(self) -> bool:
        """Whether every variant that ran is close to the reference."""
        return all(item.is_close for item in self.compared)

    def to_json(self) -> dict[str, Any]:
        """As plain values for a JSON encoder."""
        return {"schema": "pyruntime-parity/1", **_plain(dataclasses.asdict(self))}

    def to_frame(self) -> "pandas.DataFrame":
        """A pandas frame with a row for each variant and output."""
        from pyruntime.bench.frames import parity_frame

        return parity_frame(self)


def parity(
    path: str | os.PathLike[str],
    *,
    devices: Sequence[str] = ("cpu",),
    providers: Sequence[str] | None = None,
    vary: Sequence[str] = KINDS,
    against: Sequence[str | os.PathLike[str]] = (),
    rows: int = 1,
    samples: int = 16,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    inputs: Mapping[str, Array] | None = None,
    relative: float | None = None,
    absolute: float | None = None,
    options: ModelOptions | None = None,
) -> Parity:
    """Run a model in several ways on the same inputs, and compare the outputs.

    devices: the first is the reference's. providers: None: those that this engine has.
    vary: what to change, one at a time, of variants.KINDS.
    against: further model files with the same inputs and outputs.
    rows, samples: of each request, and how many, random with `seed`; dims: as for overhead().
    inputs: arrays [samples * rows, ...] instead.
    relative, absolute: tolerances, see deviations.Tolerance; None: usual ones for the outputs'
    type, and for float16 those of float16.
    options: of the reference.

    Raises InvalidInput, Unavailable, EngineError where the reference itself cannot run. A variant
    that cannot is in `skipped`.
    """
    path = os.fspath(path)
    others = [os.fspath(other) for other in against]
    for file in (path, *others):
        if not Path(file).is_file():
            problem = "a folder" if Path(file).is_dir() else "nothing there"
            raise InvalidInput(f"model '{file}': expected an .onnx file, got {problem}")
    base = _base(devices, vary, rows, samples, options)
    with Runtime() as runtime:
        model = runtime.load(Path(path).stem, path, options=base)
        requests, warnings, origin = _requests(model, rows, samples, dims or {}, seed, inputs)
        try:
            expected = _answers(model, requests)
        except EngineError as error:
            # What was guessed is the likely cause.
            raise EngineError("; ".join((str(error).strip(), *warnings))) from None
        compared, skipped = [], []
        variants = make_variants(
            path,
            base,
            device_names=list(dict.fromkeys(devices[1:])),
            providers=providers,
            kinds=vary,
            against=others,
        )
        for variant in variants:
            try:
                got = _run(runtime, variant, model, requests)
            except PyRuntimeError as error:
                if variant.kind == "model":  # a file that was asked for by name
                    raise type(error)(f"{variant.name}: {_reason(error)}") from None
                skipped.append(SkippedVariant(variant.kind, variant.name, _reason(error)))
                continue
            deviations = _deviations(model, variant, expected, got, relative, absolute)
            compared.append(Compared(variant.kind, variant.name, deviations))
    threads = base.intra_op_threads
    return Parity(
        model=path,
        reference=f"{devices[0]}, optimization {base.graph_optimization}, "
        f"{threads or 'all'} thread{'' if threads == 1 else 's'}",
        samples=len(requests),
        rows=rows,
        inputs=origin,
        compared=tuple(compared),
        skipped=tuple(skipped),
        warnings=tuple(warnings),
    )


def _base(
    devices: Sequence[str],
    vary: Sequence[str],
    rows: int,
    samples: int,
    options: ModelOptions | None,
) -> ModelOptions:
    for name, value in (("rows", rows), ("samples", samples)):
        if value < 1:
            raise InvalidInput(f"{name}: expected at least 1, got {value}")
    _check_devices(devices)
    if unknown := [kind for kind in vary if kind not in KINDS]:
        raise InvalidInput(f"vary: expected some of {', '.join(KINDS)}, got {unknown[0]!r}")
    options = ModelOptions() if options is None else options
    return dataclasses.replace(options, instances=(InstanceGroup(device=devices[0]),))


def _check_devices(names: Sequence[str]) -> None:
    """Absent ones are skipped; what this build has never heard of is a mistake."""
    if not names:
        raise InvalidInput("devices: expected at least one, got none")
    known = [item.name for item in list_devices() if item.kind == "backend"]
    for name in names:
        if name.partition(":")[0] not in known:
            raise InvalidInput(f"devices: expected some of {', '.join(known)}, got {name!r}")


def _requests(
    model: Model,
    rows: int,
    samples: int,
    dims: Mapping[str, int],
    seed: int,
    given: Mapping[str, Array] | None,
) -> tuple[list[Inputs], list[str], str]:
    if given is None:
        made = [
            make_inputs(
                model.inputs,
                rows=rows,
                is_batchable=model.is_batchable,
                dims=dims,
                seed=seed + number,
            )
            for number in range(samples)
        ]
        return [each for each, _ in made], list(made[0][1]), f"random, seed {seed}"
    names = {spec.name for spec in model.inputs}
    if set(given) != names:
        wanted, got = (", ".join(map(repr, sorted(some))) for some in (names, given))
        raise InvalidInput(f"inputs: expected {wanted or 'none'}, got {got or 'none'}")
    if not model.is_batchable:
        return [dict(given)], [], "given"
    counts = {len(array) for array in given.values()}
    if len(counts) != 1 or (count := counts.pop()) < rows:
        raise InvalidInput(f"inputs: expected arrays of the same number of rows, at least {rows}")
    return (
        [
            {name: array[start : start + rows] for name, array in given.items()}
            for start in range(0, count - count % rows, rows)
        ],
        [],
        "given",
    )


def _answers(model: Model, requests: Sequence[Inputs]) -> list[Array]:
    """Each output, [samples, ...], in the order of the reference's outputs."""
    answers = [model.infer(request) for request in requests]
    return [_stack([answer[spec.name] for answer in answers]) for spec in model.outputs]


def _stack(arrays: Sequence[Array]) -> Array:
    # Shapes that depend on the values: then all elements in a row.
    if len({array.shape for array in arrays}) > 1:
        return np.concatenate([array.ravel() for array in arrays])[None]
    return np.stack(arrays)


def _run(
    runtime: Runtime, variant: Variant, reference: Model, requests: Sequence[Inputs]
) -> list[Array]:
    if variant.problem is not None:
        raise InvalidInput(variant.problem)
    if variant.is_batched and not reference.is_batchable:
        raise InvalidInput("dimension 0 of the model's inputs and outputs is not free")
    with runtime.load(reference.name, variant.source(), options=variant.options) as model:
        wanted, offered = ({spec.name for spec in one.outputs} for one in (reference, model))
        if missing := sorted(wanted - offered):
            raise InvalidInput(f"it has no output {missing[0]!r}")
        if not variant.is_batched:
            answers = [model.infer(request) for request in requests]
            return [_stack([a[spec.name] for a in answers]) for spec in reference.outputs]
        if len(requests) == 1:
            raise InvalidInput("it takes more than one sample")
        joined = {
            name: np.concatenate([request[name] for request in requests]) for name in requests[0]
        }
        answer = model.infer(joined)
        return [np.stack(np.split(answer[spec.name], len(requests))) for spec in reference.outputs]


def _deviations(
    model: Model,
    variant: Variant,
    expected: Sequence[Array],
    got: Sequence[Array],
    relative: float | None,
    absolute: float | None,
) -> tuple[Deviation, ...]:
    return tuple(
        deviation(
            spec.name,
            spec.dtype,
            one,
            other,
            tolerance_of(variant.dtype or spec.dtype, relative, absolute),
        )
        for spec, one, other in zip(model.outputs, expected, got, strict=True)
    )


def _plain(value: Any) -> Any:
    """With texts for the numbers that JSON has not: "inf", "nan"."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: Exception) -> str:
    """Without the model's name, which the reader knows."""
    return re.sub(r"^model '.*?' version \d+: ", "", str(error).partition("\n")[0])
