"""Triton's model configuration, config.pbtxt: the fields that mean something here.

Every other field that is there is named in ModelConfig.ignored.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from pyruntime.config.model import ModelConfig, Versions, WarmUpRequest
from pyruntime.config.options import MOST_QUEUED, InstanceGroup, ProviderOptions
from pyruntime.errors import InvalidInput
from pyruntime.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyruntime.config.options import Batching, ModelOptions

__all__ = ["read_triton_config", "triton_config_from_json", "triton_config_from_text"]

_BACKENDS = ("", "onnxruntime")
_PLATFORMS = ("", "onnxruntime_onnx")

# What is read; a dictionary where not all of it is.
_HONOURED: dict[str, Any] = {
    "name": True,
    "platform": True,
    "backend": True,
    "version_policy": True,
    "max_batch_size": True,
    "input": {"name": True, "data_type": True, "dims": True, "optional": True},
    "output": {"name": True, "data_type": True, "dims": True},
    "instance_group": {"name": True, "count": True, "kind": True, "gpus": True},
    "default_model_filename": True,
    "dynamic_batching": {
        "max_queue_delay_microseconds": True,
        "preserve_ordering": True,
        "priority_levels": True,
        "default_priority_level": True,
        "default_queue_policy": {
            "max_queue_size": True,
            "timeout_action": True,
            "default_timeout_microseconds": True,
            "allow_timeout_override": True,
        },
    },
    "optimization": {"graph": True, "execution_accelerators": True},
    "parameters": True,
    "model_warmup": True,
}

_QUEUE_POLICY = "dynamic_batching.default_queue_policy"

# Triton's levels are as many as one likes, 1 first; what comes behind the third is as the third.
_PRIORITIES: dict[int, Literal["high", "normal", "low"]] = {1: "high", 2: "normal", 3: "low"}

_GRAPH_LEVELS = {-1: "basic", 0: "all", 1: "extended", 2: "none"}


def read_triton_config(path: Path, defaults: ModelConfig) -> ModelConfig:
    """Read a model's config.pbtxt. defaults: where it says nothing.

    Raises InvalidInput that names the file and the field.
    """
    where = os.fspath(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where}: expected text, got an error: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from None
    return triton_config_from_text(text, defaults, path.parent, where=where)


def triton_config_from_text(
    text: str, defaults: ModelConfig, folder: Path, *, where: str
) -> ModelConfig:
    """Read protobuf's text format. folder: the model's. where: named in errors."""
    from google.protobuf import text_format

    message = _new_message()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"{where}: expected a ModelConfig as text: {reason}") from None
    return _Reader(message, defaults, folder, where).config()


def triton_config_from_json(
    text: str, defaults: ModelConfig, folder: Path, *, where: str
) -> ModelConfig:
    """Read JSON, as the protocol's load calls carry it."""
    from google.protobuf import json_format

    message = _new_message()
    try:
        json_format.Parse(text, message)
    except json_format.ParseError as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"{where}: expected a ModelConfig as JSON: {reason}") from None
    return _Reader(message, defaults, folder, where).config()


def _new_message() -> Any:
    from pyruntime.frontends import protocol

    return protocol.message_class("ModelConfig")()


class _Reader:
    """Translates one message."""

    def __init__(self, message: Any, defaults: ModelConfig, folder: Path, where: str) -> None:
        self._message = message
        self._defaults = defaults
        self._folder = folder
        self._where = where
        self._ignored = list(_unread(message, _HONOURED))

    def config(self) -> ModelConfig:
        """Give what it says. Raises InvalidInput."""
        message = self._message
        self._check_kind()
        try:
            return replace(
                self._defaults,
                options=self._options(),
                versions=self._versions(),
                requests=tuple(self._requests()),
                file=self._file_name(message.default_model_filename) or self._defaults.file,
                inputs=tuple(self._specs("input", message.input)),
                outputs=tuple(self._specs("output", message.output)),
                ignored=tuple(self._ignored),
            )
        except InvalidInput as error:
            if str(error).startswith(self._where):
                raise
            raise self._error(str(error)) from None

    def _error(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self._where}: {what}")

    def _check_kind(self) -> None:
        message = self._message
        if message.backend not in _BACKENDS:
            raise self._error(f"backend: expected 'onnxruntime', got {message.backend!r}")
        if message.platform not in _PLATFORMS:
            raise self._error(f"platform: expected 'onnxruntime_onnx', got {message.platform!r}")
        if message.name and message.name != self._folder.name:
            raise self._error(
                f"name: expected {self._folder.name!r} as the folder's, got {message.name!r}"
            )
        if message.HasField("ensemble_scheduling"):
            raise self._error("ensemble_scheduling: expected a single model, got an ensemble")
        if message.max_batch_size < 0:
            raise self._error(f"max_batch_size: expected 0 or more, got {message.max_batch_size}")

    def _file_name(self, name: str) -> str:
        if name and (name != PurePath(name).name or name in (".", "..")):
            raise self._error(f"default_model_filename: expected a file's name, got {name!r}")
        return name

    def _versions(self) -> Versions:
        policy = self._message.version_policy
        keep = self._defaults.versions.keep
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return Versions(all=True, keep=keep)
        if choice == "specific":
            if not policy.specific.versions:
                raise self._error("version_policy.specific: expected versions, got none")
            return Versions(specific=tuple(policy.specific.versions), keep=keep)
        if choice == "latest":
            return Versions(latest=policy.latest.num_versions or 1, keep=keep)
        return self._defaults.versions

    def _options(self) -> ModelOptions:
        message, options = self._message, self._defaults.options
        instances, providers = self._instances()
        providers += self._accelerators()
        if providers and all(provider.name != "cpu" for provider in providers):
            providers += (ProviderOptions("cpu"),)
        options = replace(
            options,
            batching=self._batching(options.batching),
            instances=instances or options.instances,
            providers=providers or options.providers,
        )
        level = message.optimization.graph.level
        if message.optimization.HasField("graph"):
            if level not in _GRAPH_LEVELS:
                expected = ", ".join(map(str, _GRAPH_LEVELS))
                raise self._error(f"optimization.graph.level: expected {expected}, got {level}")
            options = replace(options, graph_optimization=_GRAPH_LEVELS[level])  # type: ignore[arg-type]
        return self._with_parameters(options)

    def _batching(self, defaults: Batching) -> Batching:
        message = self._message
        # Without a batch dimension of Triton's there is nothing whose size it would limit.
        batching = replace(
            defaults,
            max_rows=max(message.max_batch_size, 1),
            request_rows=message.max_batch_size,
        )
        if not message.HasField("dynamic_batching"):
            return batching
        dynamic = message.dynamic_batching
        policy = dynamic.default_queue_policy
        timeout_us = policy.default_timeout_microseconds
        if timeout_us and policy.timeout_action == policy.DELAY:
            self._ignored.append(f"{_QUEUE_POLICY}.default_timeout_microseconds (to DELAY)")
            timeout_us = 0
        capacity = policy.max_queue_size or batching.queue_capacity
        if capacity > MOST_QUEUED:
            self._ignored.append(f"{_QUEUE_POLICY}.max_queue_size (beyond {MOST_QUEUED})")
            capacity = MOST_QUEUED
        return replace(
            batching,
            max_delay_us=dynamic.max_queue_delay_microseconds,
            queue_capacity=capacity,
            queue_timeout_us=timeout_us,
            default_priority=self._default_priority(dynamic),
        )

    def _default_priority(self, dynamic: Any) -> Literal["high", "normal", "low"]:
        levels, level = dynamic.priority_levels, dynamic.default_priority_level
        if levels == 0 and level == 0:
            return "normal"
        if not 1 <= level <= levels:
            raise self._error(
                "dynamic_batching.default_priority_level: expected 1 to priority_levels "
                f"({levels}), got {level}"
            )
        if levels > len(_PRIORITIES):
            self._ignored.append(f"dynamic_batching.priority_levels (beyond {len(_PRIORITIES)})")
        return _PRIORITIES[min(level, len(_PRIORITIES))]

    def _instances(self) -> tuple[tuple[InstanceGroup, ...], tuple[ProviderOptions, ...]]:
        """Give instances on the host, and the providers that GPUs ask for."""
        groups: list[InstanceGroup] = []
        providers: list[ProviderOptions] = []
        for group in self._message.instance_group:
            if group.count < 0:
                raise self._error(f"instance_group.count: expected 1 or more, got {group.count}")
            groups.append(InstanceGroup("cpu", group.count or 1))
            if group.kind != group.KIND_GPU:
                continue
            gpu = group.gpus[0] if group.gpus else 0
            providers.append(ProviderOptions("cuda", {"device_id": str(gpu)}))
            if len(group.gpus) > 1:
                self._ignored.append("instance_group.gpus (all but the first)")
        count = sum(group.count for group in groups)
        return ((InstanceGroup("cpu", count),) if groups else ()), tuple(providers[:1])

    def _accelerators(self) -> tuple[ProviderOptions, ...]:
        wanted = self._message.optimization.execution_accelerators
        accelerators = (*wanted.gpu_execution_accelerator, *wanted.cpu_execution_accelerator)
        return tuple(ProviderOptions(one.name, dict(one.parameters)) for one in accelerators)

    def _with_parameters(self, options: ModelOptions) -> ModelOptions:
        config = dict(options.config)
        for name, parameter in sorted(self._message.parameters.items()):
            value = parameter.string_value
            if name == "intra_op_thread_count":
                options = replace(options, intra_op_threads=self._number(name, value))
            elif name == "inter_op_thread_count":
                options = replace(options, inter_op_threads=self._number(name, value))
            elif name == "enable_mem_arena":
                options = replace(options, use_arena=self._number(name, value) != 0)
            elif name.startswith("session."):
                config[name] = value
            else:
                self._ignored.append(f"parameters[{name!r}]")
        return replace(options, config=config)

    def _number(self, name: str, value: str) -> int:
        if not value.isascii() or not value.isdigit():
            raise self._error(f"parameters[{name!r}]: expected a whole number, got {value!r}")
        return int(value)

    def _specs(self, kind: str, tensors: Any) -> Iterator[TensorSpec]:
        for tensor in tensors:
            if getattr(tensor, "optional", False):
                continue  # need not be there
            dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
            shape = (-1, *dims) if self._message.max_batch_size > 0 else tuple(dims)
            yield TensorSpec(tensor.name, self._dtype(f"{kind} {tensor.name!r}", tensor), shape)

    def _dtype(self, what: str, tensor: Any) -> str:
        enum = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type
        name: str = enum.values_by_number[tensor.data_type].name.removeprefix("TYPE_").lower()
        if name == "invalid":
            raise self._error(f"{what}: data_type: expected one, got none")
        return {"fp16": "float16", "fp32": "float32", "fp64": "float64", "bf16": "bfloat16"}.get(
            name, name
        )

    def _requests(self) -> Iterator[WarmUpRequest]:
        for sample in self._message.model_warmup:
            what = f"model_warmup {sample.name!r}"
            inputs = {}
            for name, tensor in sorted(sample.inputs.items()):
                dtype = self._dtype(f"{what}: input {name!r}", tensor)
                if any(size < 1 for size in tensor.dims):
                    raise self._error(
                        f"{what}: input {name!r}: dims: expected sizes from 1 on, "
                        f"got {list(tensor.dims)}"
                    )
                rows = (sample.batch_size,) if sample.batch_size > 0 else ()
                inputs[name] = (dtype, (*rows, *tensor.dims), self._data(what, tensor))
            yield WarmUpRequest(sample.name, inputs, sample.count or 1)

    def _data(self, what: str, tensor: Any) -> str | Path:
        choice = tensor.WhichOneof("input_data_type")
        if choice != "input_data_file":
            return "random" if choice == "random_data" else "zeros"
        folder = self._folder / "warmup"
        path: Path = folder / tensor.input_data_file
        if not path.resolve().is_relative_to(folder.resolve()):
            raise self._error(f"{what}: input_data_file leads out of {folder}")
        return path


def _unread(message: Any, honoured: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Name what is set in a message and not read."""
    seen = set()
    for field, value in message.ListFields():
        name = f"{prefix}{field.name}"
        inner = honoured.get(field.name)
        if inner is None:
            yield name
        elif isinstance(inner, dict):
            for one in value if field.is_repeated else [value]:
                for found in _unread(one, inner, f"{name}."):
                    if found not in seen:
                        seen.add(found)
                        yield found
