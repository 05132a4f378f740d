"""Results as text for a terminal."""

from collections.abc import Callable, Mapping, Sequence

from pyruntime.bench.results import Configuration, Measurement, Results
from pyruntime.commands.table import table, wrap

__all__ = ["describe", "results_text", "row_of"]

# Heading, and the figure or what is made of it.
COLUMNS: Sequence[tuple[str, Callable[[Mapping[str, float]], str]]] = (
    ("p50 us", lambda figures: _number(figures.get("p50_us"))),
    ("p90 us", lambda figures: _number(figures.get("p90_us"))),
    ("p99 us", lambda figures: _number(figures.get("p99_us"))),
    ("p99.9 us", lambda figures: _number(figures.get("p999_us"))),
    ("max us", lambda figures: _number(figures.get("max_us"))),
    ("requests/s", lambda figures: _number(figures.get("requests_per_s"))),
    ("rows/s", lambda figures: _number(figures.get("rows_per_s"))),
    ("CPU us", lambda figures: _number(figures.get("cpu_us_per_request"))),
    ("MiB", lambda figures: _number(_mib(figures.get("peak_bytes")))),
    ("batch", lambda figures: _number(figures.get("batch_rows_mean"))),
)


def results_text(results: Results) -> str:
    """Lay them out: what was measured on what, the table, and what to know about it."""
    parts = [_heading(results)]
    if results.warnings:
        parts.append("\n".join(wrap(f"! {warning}") for warning in results.warnings))
    if results.measurements:
        labels = describe([each.configuration for each in results.measurements])
        rows = [
            row_of(label, measurement)
            for label, measurement in zip(labels, results.measurements, strict=True)
        ]
        header = ("", *(name for name, _ in COLUMNS), "±p50")
        parts.append(table(rows, header=header, right=range(1, len(header))))
        notes = [
            f"! {label}: {warning}"
            for label, measurement in zip(labels, results.measurements, strict=True)
            for warning in measurement.warnings
        ]
        found = [
            f"{label}: at most {measurement.figures['max_rate_per_s']:.0f} requests/s keep "
            f"{measurement.configuration.slo}"
            for label, measurement in zip(labels, results.measurements, strict=True)
            if "max_rate_per_s" in measurement.figures
        ]
        parts += ["\n".join(map(wrap, lines)) for lines in (found, notes) if lines]
    if results.skipped:
        labels = describe([each.configuration for each in results.skipped])
        parts.append(
            "\n".join(
                wrap(f"not measured: {label}: {each.reason}")
                for label, each in zip(labels, results.skipped, strict=True)
            )
        )
    return "\n\n".join(parts)


def row_of(label: str, measurement: Measurement) -> tuple[str, ...]:
    """Cells of the table; * where something is to be known about the figures."""
    figures = measurement.figures
    low, high = measurement.ci.get("p50_us", (0.0, 0.0))
    median = figures.get("p50_us", 0.0)
    width = f"{(high - low) / 2 / median:.1%}" if median else "-"
    mark = " *" if measurement.warnings or not measurement.is_complete else ""
    return (label + mark, *(show(figures) for _, show in COLUMNS), width)


def describe(configurations: Sequence[Configuration]) -> list[str]:
    """Short labels: what sets them apart, and how they are loaded with requests."""
    varying = {
        name
        for name in ("model", "target", "device", "provider", "threads", "instances", "max_rows")
        if len({getattr(each, name) for each in configurations}) > 1
    }
    return [_label(each, varying) for each in configurations]


_WORDS = {
    "model": "{}",
    "target": "{}",
    "device": "{}",
    "provider": "{}",
    "threads": "threads {}",
    "instances": "instances {}",
    "max_rows": "max rows {}",
}


def _label(configuration: Configuration, varying: set[str]) -> str:
    words = [
        text.format(getattr(configuration, name))
        for name, text in _WORDS.items()
        if name in varying
    ]
    words.append(configuration.scenario)
    if configuration.slo is not None:
        words.append(configuration.slo)
    elif configuration.rate_per_s is not None:
        words.append(f"{configuration.rate_per_s:g}/s")
    elif configuration.concurrency is not None:
        words.append(f"x{configuration.concurrency}")
    if configuration.rows != 1:
        words.append(f"{configuration.rows} rows")
    return " ".join(words)


def _heading(results: Results) -> str:
    print_ = results.fingerprint
    machine, versions = print_["machine"], print_["versions"]
    gpu = machine["gpu"]
    cards = ", ".join(item["name"] for item in gpu["devices"]) if gpu else "no GPU"
    server = print_.get("server")
    rows = [
        *(("model", _model(name, facts)) for name, facts in print_["models"].items()),
        ("request", f"{print_['request']['source']} values"),
        (
            "machine",
            f"{machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory_bytes'] / 2**30:.0f} GiB, {cards}",
        ),
        (
            "libraries",
            ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        ),
    ]
    if (rounds := print_.get("options", {}).get("rounds", 1)) > 1:
        rows.append(("rounds", f"{rounds} processes; figures are means of theirs"))
    if server is not None:
        about = " ".join(filter(None, (server.get("name"), server.get("version"))))
        rows.insert(0, ("server", about or "does not say what it is"))
    return "\n".join(wrap(f"{name:<10} {text}", indent=" " * 11) for name, text in rows)


def _model(name: str, facts: Mapping[str, object]) -> str:
    words = [name]
    if facts.get("sha256"):
        words.append(f"sha256 {str(facts['sha256'])[:12]}")
    if facts.get("parameters") is not None:
        words.append(f"{_si(float(str(facts['parameters']))).strip()} weights")
    if facts.get("flops_per_request") is not None:
        words.append(f"{_si(float(str(facts['flops_per_request'])))}FLOP a request")
    return ", ".join(words)


def _si(value: float) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:g} "


def _mib(value: float | None) -> float | None:
    return None if value is None else value / 2**20


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"
