"""Ways to run the same model whose outputs should agree."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyruntime.config import InstanceGroup, ModelOptions, ProviderOptions
from pyruntime.devices import devices
from pyruntime.errors import InvalidInput, PyRuntimeError, Unavailable

__all__ = ["KINDS", "Variant", "make_variants", "to_float16"]

KINDS = ("repeat", "device", "provider", "optimization", "threads", "batch", "precision")
"""What can be varied, each while the rest stays as in the reference; "repeat": nothing."""

# Sends inputs to a service elsewhere.
_NOT_LOCAL = {"AzureExecutionProvider"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One of them.

    kind: of KINDS, or "model" for another file.
    source: gives a path or bytes; what it raises is why this variant is skipped.
    is_batched: rows of several requests in one.
    dtype: of the computation if it is not the model's own.
    problem: why it cannot be here; None where nothing is known against it.
    """

    kind: str
    name: str
    options: ModelOptions
    source: Callable[[], str | bytes]
    is_batched: bool = False
    dtype: str | None = None
    problem: str | None = None


def make_variants(
    path: str,
    base: ModelOptions,
    *,
    device_names: Sequence[str],
    providers: Sequence[str] | None,
    kinds: Sequence[str],
    against: Sequence[str],
) -> list[Variant]:
    """All variants of `kinds`, those too that this machine lacks.

    base: of the reference. device_names: the others. providers: None: those of this engine.
    """
    made: list[Variant] = []

    def add(kind: str, name: str, problem: str | None = None, **fields: Any) -> None:
        changed = {"options": base, "source": lambda: path, **fields}
        made.append(Variant(kind, name, problem=problem, **changed))

    def with_options(**fields: Any) -> ModelOptions:
        return dataclasses.replace(base, **fields)

    if "repeat" in kinds:
        add("repeat", "again")
    if "device" in kinds:
        for name in device_names:
            options = with_options(instances=(InstanceGroup(device=name),), providers=())
            add("device", f"device {name}", options=options)
    if "provider" in kinds:
        for name in _providers(base) if providers is None else providers:
            options = with_options(providers=(ProviderOptions(name),))
            add("provider", f"provider {name}", options=options)
    if "optimization" in kinds:
        for level in ("none", "basic", "extended", "all"):
            if level != base.graph_optimization:
                add("optimization", f"optimization {level}", options=_optimized(base, level))
    if "threads" in kinds:
        count = len(os.sched_getaffinity(0)) if base.intra_op_threads == 1 else 1
        problem = "this machine has a single core" if count == base.intra_op_threads else None
        add("threads", f"threads {count}", problem, options=with_options(intra_op_threads=count))
    if "batch" in kinds:
        add("batch", "one batch", is_batched=True)
    if "precision" in kinds:
        add("precision", "float16", source=lambda: to_float16(path), dtype="float16")
    for other in against:
        add("model", f"model {other}", source=lambda other=other: other)
    return made


def _optimized(base: ModelOptions, level: Any) -> ModelOptions:
    return dataclasses.replace(base, graph_optimization=level)


def _providers(base: ModelOptions) -> list[str]:
    """Those of the engine that compute on this machine, beside those of the reference."""
    known = [item.name for item in devices() if item.kind == "provider" and item.is_present]
    used = {_short(provider.name) for provider in base.providers} or {"cpu"}
    return [name for name in known if name not in _NOT_LOCAL and _short(name) not in used]


def _short(provider: str) -> str:
    return provider.lower().removesuffix("executionprovider")


def to_float16(path: str) -> bytes:
    """The model computing in float16, with the inputs and outputs that it has.

    Raises Unavailable (says what is missing) and InvalidInput.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise Unavailable(
            f"the conversion is absent ({error}): pip install 'pyruntime[bench,cpu]'"
        ) from None
    try:
        model = onnx.load(path)
        kinds = {item.data_type for item in model.graph.initializer}
        if onnx.TensorProto.FLOAT not in kinds:
            raise InvalidInput("the model has no float32 weights to convert")
        converted: bytes = convert_float_to_float16(model, keep_io_types=True).SerializeToString()
    except PyRuntimeError:
        raise
    except Exception as error:  # whatever the two libraries raise
        first = str(error).partition("\n")[0]
        raise InvalidInput(f"the model cannot be converted: {first}") from None
    return converted
