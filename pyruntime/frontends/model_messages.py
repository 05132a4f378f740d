"""A model's metadata, configuration and statistics as protocol messages.

Statistics have the meanings that Triton gives them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyruntime._core import data_type_protocol_name
from pyruntime.config.options import PRIORITIES
from pyruntime.frontends import protocol

if TYPE_CHECKING:
    from pyruntime.config import InstanceGroup, Versions
    from pyruntime.runtime import Model
    from pyruntime.telemetry import LatencyStats, ProviderNodes
    from pyruntime.tensors import TensorSpec

_ModelMetadata = protocol.message_class("ModelMetadataResponse")
_ModelConfig = protocol.message_class("ModelConfig")
_ModelStatistics = protocol.message_class("ModelStatistics")
_InstanceGroup = protocol.message_class("ModelInstanceGroup")
_DataType = protocol.POOL.FindEnumTypeByName("inference.DataType")

# Engine to the names that clients know it by: platform, backend.
_PLATFORMS = {"onnx": ("onnxruntime_onnx", "onnxruntime")}


def _platform(model: Model) -> tuple[str, str]:
    engine = model.options.engine
    return _PLATFORMS.get(engine, (engine, engine))


def metadata(model: Model, versions: list[int]) -> Any:
    """Build ModelMetadataResponse. versions: all that are served under this name."""
    platform, _ = _platform(model)
    message = _ModelMetadata(
        name=model.name, versions=[str(version) for version in versions], platform=platform
    )
    for specs, tensors in ((model.inputs, message.inputs), (model.outputs, message.outputs)):
        for spec in specs:
            tensors.add(
                name=spec.name,
                datatype=data_type_protocol_name(spec.dtype),
                shape=_dims(spec),
            )
    for key, value in model.metadata.items():
        message.properties[key] = value
    return message


def config(model: Model, versions: Versions | None) -> Any:
    """Build ModelConfig. versions: the model's policy; None: what was loaded by hand is served."""
    platform, backend = _platform(model)
    batching = model.options.batching
    message = _ModelConfig(
        name=model.name,
        platform=platform,
        backend=backend,
        max_batch_size=_max_batch_size(model),
        default_model_filename="model.onnx" if backend == "onnxruntime" else "",
    )
    if versions is None or versions.all:
        message.version_policy.all.SetInParent()
    elif versions.specific:
        message.version_policy.specific.versions.extend(versions.specific)
    else:
        message.version_policy.latest.num_versions = versions.newest or 1
    # Where there is a batch dimension, `dims` are those behind it.
    skip = 1 if model.is_batchable else 0
    for specs, tensors in ((model.inputs, message.input), (model.outputs, message.output)):
        for spec in specs:
            tensors.add(name=spec.name, data_type=_data_type(spec), dims=_dims(spec)[skip:])
    if model.is_batchable:
        dynamic = message.dynamic_batching
        dynamic.max_queue_delay_microseconds = batching.max_delay_us
        dynamic.default_queue_policy.max_queue_size = batching.queue_capacity
        dynamic.default_queue_policy.default_timeout_microseconds = batching.queue_timeout_us
        dynamic.default_queue_policy.allow_timeout_override = True
        dynamic.priority_levels = len(PRIORITIES)
        dynamic.default_priority_level = 1 + PRIORITIES.index(batching.default_priority)
    for index, group in enumerate(model.options.instances):
        message.instance_group.append(_instance_group(model.name, index, group))
    if nodes := model.stats().placement:
        message.parameters["placement"].string_value = _placement(nodes)
    return message


def _max_batch_size(model: Model) -> int:
    """Rows that a request may have, if that is limited, or else that a batch may have."""
    batching = model.options.batching
    return (batching.request_rows or batching.most_rows) if model.is_batchable else 0


def statistics(model: Model, memory_bytes: int = 0) -> Any:
    """Build ModelStatistics. memory_bytes: that the version needs; 0: not known."""
    stats = model.stats()
    message = _ModelStatistics(
        name=model.name,
        version=str(model.version),
        last_inference=stats.last_completed_unix_ms,
        inference_count=stats.rows,
        execution_count=stats.batches,
    )
    if memory_bytes:
        message.memory_usage.add(type="CPU", id=0, byte_size=memory_bytes)
    inference = message.inference_stats
    for target, latency in (
        (inference.success, stats.total),
        (inference.fail, stats.failed_total),
        (inference.queue, stats.queue),
        (inference.compute_input, stats.gather),
        (inference.compute_infer, stats.run),
        (inference.compute_output, stats.scatter),
    ):
        _set_duration(target, latency)
    for size in stats.by_batch_rows:
        batch = message.batch_stats.add(batch_size=size.rows)
        for target, ns in (
            (batch.compute_input, size.gather_ns),
            (batch.compute_infer, size.run_ns),
            (batch.compute_output, size.scatter_ns),
        ):
            target.count = size.count
            target.ns = ns
    return message


def _dims(spec: TensorSpec) -> list[int]:
    """Dimensions, -1 where any will do; empty for a scalar and for any rank."""
    return list(spec.shape)


def _data_type(spec: TensorSpec) -> int:
    name = data_type_protocol_name(spec.dtype)
    name = "STRING" if name == "BYTES" else name
    number: int = _DataType.values_by_name[f"TYPE_{name}"].number
    return number


def _instance_group(model: str, index: int, group: InstanceGroup) -> Any:
    kind, _, device = group.device.partition(":")
    message = _InstanceGroup(name=f"{model}_{index}", count=group.count)
    message.kind = _InstanceGroup.KIND_GPU if kind == "cuda" else _InstanceGroup.KIND_CPU
    if kind == "cuda":
        message.gpus.append(int(device or 0))
    return message


def _placement(nodes: tuple[ProviderNodes, ...]) -> str:
    """Write as JSON, by device and provider, how many nodes of each kind run there."""
    by_device: dict[str, dict[str, Any]] = {}
    for one in nodes:
        by_device.setdefault(one.device, {})[one.provider] = dict(one.op_types)
    return json.dumps(by_device)


def _set_duration(target: Any, latency: LatencyStats) -> None:
    target.count = latency.count
    target.ns = latency.sum_ns
