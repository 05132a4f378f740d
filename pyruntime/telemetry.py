"""What a model version counts and measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyruntime.routing import Target

__all__ = [
    "ArmStats",
    "BatchCost",
    "BatchSizeStats",
    "CostPoint",
    "LatencyStats",
    "ModelStats",
    "OverlapTimes",
    "PlacedNode",
    "PoolStats",
    "ProviderNodes",
    "RouteStats",
    "ShadowOutputStats",
    "ShadowStats",
]


@dataclass(frozen=True, slots=True)
class LatencyStats:
    """A distribution of times.

    count: how many were measured. sum_ns: of all of them, nanoseconds.
    mean_us, p50_us, p90_us, p99_us, max_us: microseconds; quantiles are within 6.25 %.
    """

    count: int
    sum_ns: int
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class BatchSizeStats:
    """All batches with one number of rows: how many, and their time in sum, nanoseconds."""

    rows: int
    count: int
    gather_ns: int
    run_ns: int
    scatter_ns: int


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Memory of staging buffers and results.

    held_bytes: from the system. used_bytes, peak_used_bytes: lent out, now and at most.
    allocations: that succeeded. system_allocations: of them, those that went to the system.
    exhaustions: refused, because the pool was full.
    """

    held_bytes: int
    used_bytes: int
    peak_used_bytes: int
    allocations: int
    system_allocations: int
    exhaustions: int


@dataclass(frozen=True, slots=True)
class CostPoint:
    """What batches of about so many rows take, smoothed.

    rows: their mean. us: microseconds from forming a batch to its answers. count: of batches.
    """

    rows: float
    us: float
    count: int


@dataclass(frozen=True, slots=True)
class BatchCost:
    """What the batches of one shape cost, as the scheduler knows it.

    shapes: of each input without its rows; empty where requests run alone.
    limit: rows at which a batch stops. points: by rows, ascending, only those that occurred.
    """

    shapes: tuple[tuple[int, ...], ...]
    limit: int
    points: tuple[CostPoint, ...]


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """Where the engine runs one node of a model.

    device: of the group of instances. provider: the engine's full name.
    name: the model's own, "" where it has none. op_type: "Conv", "com.microsoft.FusedMatMul".
    """

    device: str
    provider: str
    name: str
    op_type: str


@dataclass(frozen=True, slots=True)
class OverlapTimes:
    """What warm-up has measured of batches in flight on a device (`ModelOptions.overlap`).

    shapes: of each input, without its rows. payload_bytes: of a batch's inputs and outputs.
    none_us, two_us, three_us: of a batch, that way. chosen: what batches of about that size take.
    """

    device: str
    shapes: tuple[tuple[int, ...], ...]
    payload_bytes: int
    none_us: float
    two_us: float
    three_us: float
    chosen: str


@dataclass(frozen=True, slots=True)
class ProviderNodes:
    """How many nodes of a model a provider runs, for the instances on a device.

    op_types: how many of each kind, the most frequent first.
    """

    device: str
    provider: str
    nodes: int
    op_types: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Of one model version since it was loaded.

    accepted = completed + failed + cancelled + what is in flight; counted are requests, but for
    those of a warm-up.

    completed: with a result. failed: with an error. cancelled: given up before or while they ran.
    expired: of the failed, those dropped in the queue because of their deadline.
    rejected: never accepted, because the queue was full or the deadline out of reach.
    rows: of completed requests. batches: runs of the engine. Of them, overlapped: those that were
    copied to and from a device beside the runs of others; replayed: those that a GPU ran as graphs.
    retried: run again alone after their batch failed.
    inputs_copied: inputs that were not contiguous, aligned and of native byte order.
    replaced: instances whose device did not complete a run within `stuck_after_s`.
    stuck: instances whose run takes longer than that now. stuck_since_unix_ms: when the oldest of
    these runs began, milliseconds since 1970; 0: none.
    last_completed_unix_ms: milliseconds since 1970; 0: none yet.
    queue, gather, run, scatter: a completed request's time in each step.
    total: from submission to completion, of completed requests; failed_total: of failed ones.
    by_batch_rows: by rows in a batch, ascending, only those that occurred.
    pool: memory of staging buffers and results.
    costs: of batches, by shape.
    overlaps: what was measured before batches overlapped on a device, by shape and size.
    placement: nodes of the model by device and provider; empty where the engine has no providers.
    """

    accepted: int
    completed: int
    failed: int
    cancelled: int
    expired: int
    rejected: int
    rows: int
    batches: int
    overlapped: int
    replayed: int
    retried: int
    inputs_copied: int
    replaced: int
    stuck: int
    stuck_since_unix_ms: int
    last_completed_unix_ms: int
    queue: LatencyStats
    gather: LatencyStats
    run: LatencyStats
    scatter: LatencyStats
    total: LatencyStats
    failed_total: LatencyStats
    by_batch_rows: tuple[BatchSizeStats, ...]
    pool: PoolStats
    costs: tuple[BatchCost, ...]
    overlaps: tuple[OverlapTimes, ...]
    placement: tuple[ProviderNodes, ...]

    @classmethod
    def from_native(cls, stats: Mapping[str, Any]) -> "ModelStats":
        """Name what `_core.ModelVersion.stats()` returns."""
        values = dict(stats)
        for name in ("queue", "gather", "run", "scatter", "total", "failed_total"):
            values[name] = LatencyStats(*values[name])
        values["by_batch_rows"] = tuple(BatchSizeStats(*size) for size in values["by_batch_rows"])
        values["pool"] = PoolStats(*values["pool"])
        values["costs"] = tuple(
            BatchCost(shapes, limit, tuple(CostPoint(*point) for point in points))
            for shapes, limit, points in values["costs"]
        )
        values["overlaps"] = tuple(
            OverlapTimes(device, shapes, payload_bytes, none_us, two_us, three_us, chosen)
            for device, shapes, payload_bytes, (none_us, two_us, three_us), chosen in values[
                "overlaps"
            ]
        )
        values["placement"] = tuple(
            ProviderNodes(device, provider, nodes, dict(op_types))
            for device, provider, nodes, op_types in values["placement"]
        )
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ArmStats:
    """Of one arm of a route; assigned = completed + failed + cancelled + refused + in flight.

    name: of the arm. target: version or label; None: the latest.
    refused: never accepted: the caller's mistake, a full queue, a deadline out of reach.
    rewards, reward_sum: given by feedback.
    total: from submission to completion, of completed requests. buckets: the same as
    (at least so many microseconds, so many requests), ascending, each 6.25 % wide.
    """

    name: str
    target: Target | None
    assigned: int
    completed: int
    failed: int
    cancelled: int
    refused: int
    rewards: int
    reward_sum: float
    total: LatencyStats
    buckets: tuple[tuple[float, int], ...]

    @property
    def mean_reward(self) -> float:
        """Of the rewards so far; 0 without any."""
        return self.reward_sum / self.rewards if self.rewards else 0.0


@dataclass(frozen=True, slots=True)
class ShadowOutputStats:
    """Of one output that was compared.

    mismatched: answers beyond the tolerance. max_absolute, max_relative: the largest differences.
    """

    name: str
    mismatched: int
    max_absolute: float
    max_relative: float


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """Of a shadow; sampled = dropped + skipped + failed + matched + mismatched + under way.

    dropped: the processors were busy, the request was too large, or the version went away.
    skipped: the request itself had no answer to compare with.
    failed: the shadow had none. matched, mismatched: answers within their tolerances, and others.
    last_problem: of a failed or mismatched one; empty: none.
    total: from the shadow's submission to its completion.
    """

    sampled: int
    dropped: int
    skipped: int
    failed: int
    matched: int
    mismatched: int
    last_problem: str
    outputs: tuple[ShadowOutputStats, ...]
    total: LatencyStats


@dataclass(frozen=True, slots=True)
class RouteStats:
    """Of a model's route since it was set; an experiment of the same name and arms goes on.

    arms: empty where the route is one version, which ModelStats counts. experiment: its name, or
    a bandit's; empty where there is none.
    fallbacks: requests that the first arm answered because theirs was not loaded.
    unmatched_rewards: for requests that are unknown, forgotten or have had theirs.
    shadow: None where there is none.
    """

    arms: tuple[ArmStats, ...] = ()
    fallbacks: int = 0
    unmatched_rewards: int = 0
    shadow: ShadowStats | None = None
    experiment: str = ""

    @classmethod
    def from_native(cls, stats: Mapping[str, Any] | None) -> "RouteStats":
        """Name what `_core.Registry.route_stats()` returns."""
        if stats is None:
            return cls()
        made = [
            ArmStats(**{**values, "total": LatencyStats(*values["total"])})
            for values in stats["arms"]
        ]
        shadow = None
        if (values := stats["shadow"]) is not None:
            outputs = tuple(ShadowOutputStats(*output) for output in values["outputs"])
            total = LatencyStats(*values["total"])
            shadow = ShadowStats(**{**values, "outputs": outputs, "total": total})
        return cls(
            tuple(made),
            stats["fallbacks"],
            stats["unmatched_rewards"],
            shadow,
            stats["experiment"],
        )
