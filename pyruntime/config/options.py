"""Options of a model, checked where they are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyruntime.config.checks import (
    check_integer,
    check_items,
    check_numbers_by_name,
    check_seconds,
    check_text,
    check_texts_by_name,
    check_type,
    is_number,
    make,
    make_items,
    mismatch,
)
from pyruntime.tensors import TensorSpec

__all__ = [
    "MOST_AUTO_ROWS",
    "MOST_QUEUED",
    "Batching",
    "InstanceGroup",
    "ModelOptions",
    "Padding",
    "ProviderOptions",
]

GRAPH_OPTIMIZATIONS = ("none", "basic", "extended", "all")
OVERLAPS = ("measured", "none", "two", "three")
PRIORITIES = ("high", "normal", "low")


@dataclass(frozen=True, slots=True)
class Padding:
    """A dimension in which requests of unequal lengths are filled up to run together.

    To be declared only where the model answers a padded request as an unpadded one, by a mask,
    say. Outputs are cut back to the request's own length.

    dim: a symbol of the model's inputs ("sequence"), or "INPUT.AXIS"; not that of the rows.
    value: that fills; values: by input, where another one fills.
    outputs: "OUTPUT.AXIS" of those to be cut back that do not bear the symbol.
    sizes: to which lengths are filled up, ascending; longer requests stay as they are. Empty: a
        few sizes, learned from the lengths that come.
    largest: no size exceeds it, such as the model's longest sequence; 0: no limit.
    """

    dim: str
    value: float = 0
    values: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    largest: int = 0

    def __post_init__(self) -> None:
        check_text(self, "dim")
        if not is_number(self.value):
            raise mismatch(self, "value", "a number")
        check_numbers_by_name(self, "values")
        check_items(self, "outputs", str)
        check_items(self, "sizes", int)
        if any(size <= before for before, size in zip((0, *self.sizes), self.sizes, strict=False)):
            raise mismatch(self, "sizes", "ascending sizes of at least 1")
        check_integer(self, "largest", least=0)


MOST_AUTO_ROWS = 256
"""How far `Batching.max_rows = "auto"` goes."""

MOST_QUEUED = 65536
"""How far `Batching.queue_capacity` goes."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are grouped before a run.

    max_rows: rows along dimension 0 in one run, at least 1 (1: no batching); "auto": as many
        as make a row cheaper, found for each shape from what batches cost.
    max_delay_us: longest wait of the oldest request for company, microseconds; 0: none.
    queue_capacity: requests that wait, at most; more are refused as Overloaded.
    queue_rows: their rows together, at most; 0: no limit.
    queue_bytes: bytes of their inputs together, at most; 0: no limit.
    queue_timeout_us: a request that has waited longer is refused as DeadlineExceeded when its
        turn comes, microseconds; 0: no limit.
    request_rows: rows of one request, at most; more are refused as InvalidInput. 0: no limit; a
        request of more than `max_rows` runs alone.
    default_priority: "high", "normal" or "low"; of requests that name none.
    padding: dimensions in which requests of unequal lengths are filled up to run together.
    """

    max_rows: int | Literal["auto"] = "auto"
    max_delay_us: int = 0
    queue_capacity: int = 1024
    queue_rows: int = 0
    queue_bytes: int = 0
    queue_timeout_us: int = 0
    request_rows: int = 0
    default_priority: Literal["high", "normal", "low"] = "normal"
    padding: tuple[Padding, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.max_rows, str):
            if self.max_rows != "auto":
                raise mismatch(self, "max_rows", 'an int of at least 1 or "auto"')
        else:
            check_integer(self, "max_rows", least=1)
        check_integer(self, "max_delay_us", least=0)
        check_integer(self, "queue_capacity", least=1, most=MOST_QUEUED)
        check_integer(self, "queue_rows", least=0)
        check_integer(self, "queue_bytes", least=0)
        check_integer(self, "queue_timeout_us", least=0, most=3_600_000_000)
        check_integer(self, "request_rows", least=0)
        if self.default_priority not in PRIORITIES:
            raise mismatch(self, "default_priority", "one of " + ", ".join(map(repr, PRIORITIES)))
        check_items(self, "padding", Padding)

    @property
    def most_rows(self) -> int:
        """Rows that no batch of several requests exceeds."""
        return MOST_AUTO_ROWS if isinstance(self.max_rows, str) else self.max_rows


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """Identical instances of a model on one device.

    device: "cpu", "simulated:0", "cuda:1".
    count: instances that can run at once, at least 1.
    """

    device: str = "cpu"
    count: int = 1

    def __post_init__(self) -> None:
        check_text(self, "device")
        check_integer(self, "count", least=1, most=2**15 - 1)


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """An execution provider of the engine.

    name: "cpu", "cuda", or the engine's full name, "CUDAExecutionProvider".
    options: in the engine's own words.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self, "name")
        check_texts_by_name(self, "options")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model is loaded and served.

    batching: how requests are grouped.
    instances: on which devices, and how many on each.
    engine: "onnx", or "echo", whose outputs equal its inputs.
    providers: execution providers in order of preference; empty: the device's own.
    graph_optimization: "none", "basic", "extended" or "all".
    intra_op_threads: threads within one operator; 0: the engine's choice.
    inter_op_threads: operators at once; 0: the engine's choice.
    use_global_pool: share the threads of all models of the process instead.
    allow_spinning: of the engine's own threads between runs.
    use_arena: the engine's own memory arena.
    config: further keys of the engine, verbatim.
    pool_capacity_bytes: of staging buffers and results, per device.
    lock_pages: keep them in physical memory.
    stuck_after_s: a run that takes longer is reported; on a device beside the host its requests
        fail and the instance is replaced. Seconds, 0: never.
    overlap: on a device beside the host, batches in flight: "none", two on one stream; "two" and
        "three", that many, copied on streams of their own beside the runs of others; "measured",
        whichever warm-up finds fastest for a shape and size.
    cuda_graphs: rows of batches that a GPU replays as a CUDA graph, ascending; smaller batches are
        filled up, larger ones run as without. Captured when the model is loaded; a model that
        cannot be captured is refused with the reason.
    echo_inputs: what the echo engine takes and returns.
    """

    batching: Batching = Batching()
    instances: tuple[InstanceGroup, ...] = (InstanceGroup(),)
    engine: str = "onnx"
    providers: tuple[ProviderOptions, ...] = ()
    graph_optimization: Literal["none", "basic", "extended", "all"] = "all"
    intra_op_threads: int = 1
    inter_op_threads: int = 1
    use_global_pool: bool = False
    allow_spinning: bool = False
    use_arena: bool = True
    config: Mapping[str, str] = field(default_factory=dict)
    pool_capacity_bytes: int = 1 << 30
    lock_pages: bool = False
    stuck_after_s: float = 30.0
    overlap: Literal["measured", "none", "two", "three"] = "measured"
    cuda_graphs: tuple[int, ...] = ()
    echo_inputs: tuple[TensorSpec, ...] = ()

    def __post_init__(self) -> None:
        check_type(self, "batching", Batching)
        check_items(self, "instances", InstanceGroup)
        if not self.instances:
            raise mismatch(self, "instances", "at least one InstanceGroup")
        check_text(self, "engine")
        check_items(self, "providers", ProviderOptions)
        for name, known in (
            ("graph_optimization", GRAPH_OPTIMIZATIONS),
            ("overlap", OVERLAPS),
        ):
            if getattr(self, name) not in known:
                raise mismatch(self, name, f"one of {', '.join(map(repr, known))}")
        check_integer(self, "intra_op_threads", least=0, most=2**15 - 1)
        check_integer(self, "inter_op_threads", least=0, most=2**15 - 1)
        for name in ("use_global_pool", "allow_spinning", "use_arena", "lock_pages"):
            check_type(self, name, bool)
        check_texts_by_name(self, "config")
        check_integer(self, "pool_capacity_bytes", least=1, most=2**63 - 1)
        check_seconds(self, "stuck_after_s")
        check_items(self, "cuda_graphs", int)
        sizes = self.cuda_graphs
        if any(size <= before for before, size in zip((0, *sizes), sizes, strict=False)):
            raise mismatch(self, "cuda_graphs", "ascending rows of at least 1")
        check_items(self, "echo_inputs", TensorSpec)

    @classmethod
    def from_mapping(
        cls,
        mapping: Mapping[str, Any],
        *,
        where: str = "ModelOptions",
        others: Sequence[str] = (),
    ) -> "ModelOptions":
        """Build options from nested mappings, such as a TOML file's.

        where: named in errors. others: keys that a file may have besides, for the message.
        Raises InvalidInput for an unknown key or an unfit value.
        """
        values = dict(mapping)
        if isinstance(values.get("batching"), Mapping):
            batching = dict(values["batching"])
            make_items(batching, "padding", Padding, f"{where}: batching")
            values["batching"] = batching
        if "batching" in values:
            values["batching"] = make(Batching, values["batching"], f"{where}: batching")
        for name, item_type in _ITEM_TYPES.items():
            make_items(values, name, item_type, where)
        return make(cls, values, where, others=others)


_ITEM_TYPES: dict[str, type[Any]] = {
    "instances": InstanceGroup,
    "providers": ProviderOptions,
    "echo_inputs": TensorSpec,
}
