"""In what two runs were not the same, beside what was measured."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["fingerprint_warnings"]

_SECTIONS = ("machine", "versions", "server", "request", "options")
# Changes by itself, or says the same as another key.
_IGNORED = {"load_1min", "affinity", "hostname", "time", "free_bytes"}
_MOST = 8


def fingerprint_warnings(
    before: Mapping[str, Any], after: Mapping[str, Any], labels: tuple[str, str]
) -> list[str]:
    """A line for each difference that can explain another figure; the model's first."""
    lines = [
        f"{name!r} is not the same model file: sha256 {_short(a)[:12]} in {labels[0]}, "
        f"{_short(b)[:12]} in {labels[1]}"
        for name, a, b in _other_models(before, after)
    ]
    for section in _SECTIONS:
        one, other = before.get(section) or {}, after.get(section) or {}
        if not isinstance(one, Mapping) or not isinstance(other, Mapping):
            continue
        lines += [
            f"{section} {path}: {_short(a)} in {labels[0]}, {_short(b)} in {labels[1]}"
            for path, a, b in _apart(_prepared(one), _prepared(other), "")
        ]
    if len(lines) > _MOST:
        lines[_MOST:] = [f"and {len(lines) - _MOST} more differences between their fingerprints"]
    lines += [line for line in map(_busy, (before, after), labels) if line]
    return lines


def _prepared(section: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(section)
    if isinstance(values.get("affinity"), list):
        values["usable_cores"] = len(values["affinity"])
    if isinstance(values.get("memory_bytes"), int | float):
        values["memory_bytes"] = f"{values['memory_bytes'] / 2**30:.0f} GiB"
    return values


def _apart(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            if key not in _IGNORED:
                yield from _apart(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    # A part that only one has, such as the shapes of another model, explains nothing.
    elif one != other and not isinstance(one, Mapping) and not isinstance(other, Mapping):
        yield path, one, other


def _other_models(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    one, other = (_models(fingerprint) for fingerprint in (before, after))
    for name in one:
        if name in other and one[name] != other[name]:
            yield name, one[name], other[name]


def _models(fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """Hashes by name; a ledger has one model, a file."""
    models = dict(fingerprint.get("models") or {})
    if isinstance(model := fingerprint.get("model"), Mapping):
        models[str(model.get("file"))] = model
    return {
        name: str(model["sha256"])
        for name, model in models.items()
        if isinstance(model, Mapping) and model.get("sha256")
    }


def _busy(fingerprint: Mapping[str, Any], label: str) -> str | None:
    machine = fingerprint.get("machine")
    if not isinstance(machine, Mapping):
        return None
    load, cores = machine.get("load_1min"), machine.get("cores")
    if not isinstance(load, int | float) or not isinstance(cores, int) or load <= cores / 2:
        return None
    return f"the machine of {label} was busy before it began: load {load:.1f} on {cores} cores"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 48 else f"{text[:20]}...{text[-12:]}"
