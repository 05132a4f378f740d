"""Options that are worth trying, as changes of the options that are there."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyruntime.config import ModelOptions
from pyruntime.errors import InvalidInput

__all__ = ["COUNT", "MAX_ROWS", "THREADS", "Choice", "apply", "choices", "describe", "parse_tries"]

THREADS, COUNT, MAX_ROWS = "intra_op_threads", "instances.count", "batching.max_rows"

_MAX_ROWS = ("auto", 1, 4, 16, 64)
# Options of providers that change no result, by provider and with the values that they take.
_PROVIDERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "cuda": {"cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC")},
}

Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """Options, and by key of model.toml in what they are not those that were there."""

    changes: Changes
    options: ModelOptions


def choices(
    base: ModelOptions,
    *,
    cores: int,
    is_batchable: bool,
    threads: Sequence[int] | None,
    instances: Sequence[int] | None,
    max_rows: Sequence[int | str] | None,
    tries: Mapping[str, Sequence[Any]],
) -> list[Choice]:
    """All combinations, of which the first is `base`. None: what suits the machine.

    Threads of all instances together are at most `cores`, unless given.
    """
    sizes = _powers_of_two(cores)
    is_free = threads is None and instances is None
    group_count = len(base.instances)
    axes: dict[str, Sequence[Any]] = {
        THREADS: sizes if threads is None else threads,
        # Several groups are on several devices: what is best for each is not found by one number.
        COUNT: (sizes if group_count == 1 else ()) if instances is None else instances,
        MAX_ROWS: (_MAX_ROWS if is_batchable else ()) if max_rows is None else max_rows,
        **_provider_axes(base),
        **tries,
    }
    axes = {key: values for key, values in axes.items() if values}
    found: dict[tuple[tuple[str, Any], ...], Choice] = {(): Choice({}, base)}
    for values in itertools.product(*axes.values()):
        wanted = dict(zip(axes, values, strict=True))
        changes = {key: value for key, value in wanted.items() if value != _value_of(base, key)}
        options = apply(base, changes)
        busy = options.intra_op_threads * sum(group.count for group in options.instances)
        if not is_free or busy <= cores:
            found.setdefault(tuple(changes.items()), Choice(changes, options))
    return list(found.values())


def apply(base: ModelOptions, changes: Changes) -> ModelOptions:
    """Make options of changes by key. Raises InvalidInput that names the key."""
    values = dataclasses.asdict(base)
    values["echo_inputs"] = base.echo_inputs
    for key, value in changes.items():
        if key == COUNT:
            values["instances"] = [{**group, "count": value} for group in values["instances"]]
        elif key.startswith("providers."):
            _, name, option = key.split(".", 2)
            groups = [dict(provider) for provider in values["providers"]]
            if not any(provider["name"] == name for provider in groups):
                groups.append({"name": name, "options": {}})
            for provider in groups:
                if provider["name"] == name:
                    provider["options"] = {**provider["options"], option: str(value)}
            values["providers"] = groups
        elif "." in key:
            table, field = key.split(".", 1)
            values[table] = {**values[table], field: str(value) if table == "config" else value}
        else:
            values[key] = value
    return ModelOptions.from_mapping(values, where="try")


def parse_tries(texts: Sequence[str], base: ModelOptions) -> dict[str, list[Any]]:
    """Read KEY=VALUE,..., KEY as in model.toml. Raises InvalidInput."""
    tries: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        key = key.strip()
        is_table = key.startswith("providers.") and key.count(".") >= 2
        is_known = is_table or key.startswith(("config.", "batching.")) or _is_scalar(base, key)
        if not equals or not is_known or not all(item.strip() for item in listed.split(",")):
            raise InvalidInput(
                f"try {text!r}: expected KEY=VALUE,... where KEY is a field of ModelOptions that "
                "is no list, batching.FIELD, config.KEY or providers.NAME.OPTION"
            )
        tries[key] = [_parsed(item.strip()) for item in listed.split(",")]
        for value in tries[key]:
            apply(base, {key: value})  # a value that does not fit is refused here
    return tries


def _is_scalar(base: ModelOptions, key: str) -> bool:
    return isinstance(getattr(base, key, None), bool | int | float | str)


def _parsed(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _powers_of_two(most: int) -> list[int]:
    return sorted({*(1 << i for i in range(most.bit_length())), most})


def _provider_axes(base: ModelOptions) -> dict[str, Sequence[str]]:
    used = {provider.name.lower().removesuffix("executionprovider") for provider in base.providers}
    used |= {group.device.partition(":")[0] for group in base.instances}
    names = {p.name.lower().removesuffix("executionprovider"): p.name for p in base.providers}
    return {
        f"providers.{names.get(provider, provider)}.{option}": values
        for provider, options in _PROVIDERS.items()
        if provider in used
        for option, values in options.items()
    }


def _value_of(base: ModelOptions, key: str) -> Any:
    if key == COUNT:
        counts = {group.count for group in base.instances}
        return counts.pop() if len(counts) == 1 else None
    if key.startswith("providers."):
        _, name, option = key.split(".", 2)
        return next((p.options.get(option) for p in base.providers if p.name == name), None)
    if "." in key:
        table, field = key.split(".", 1)
        held = getattr(base, table)
        return held.get(field) if isinstance(held, Mapping) else getattr(held, field, None)
    return getattr(base, key)


def describe(changes: Changes) -> Iterator[str]:
    """Each as in model.toml."""
    for key, value in changes.items():
        yield f"{key} = {str(value).lower() if isinstance(value, bool) else value}"
