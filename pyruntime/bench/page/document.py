"""The page: sections of plots and tables around the drawn charts, with nothing from elsewhere."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pyruntime.bench import quantities
from pyruntime.bench.page.charts import Chart
from pyruntime.bench.page.lines import File, Line, workload_of
from pyruntime.bench.page.plots import draw_svg
from pyruntime.bench.page.style import STYLE

__all__ = ["Section", "write_page"]

# No address can be asked, whatever is in a file that was reported.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_FIGURES = (
    *("p50_us", "p90_us", "p99_us", "p999_us", "requests_per_s", "rows_per_s"),
    *("max_rate_per_s", "cpu_us_per_request", "energy_j_per_request", "batch_rows_mean"),
    *("peak_bytes", "errors_share"),
)
_NONE = "\N{EN DASH}"
_WITH_INTERVAL = {"p50_us", "p99_us", "requests_per_s", "max_rate_per_s"}


@dataclass(frozen=True, slots=True)
class Section:
    """One model."""

    model: str
    lines: Sequence[Line]
    charts: Sequence[Chart]


def write_page(files: Sequence[File], sections: Sequence[Section], title: str) -> str:
    """The HTML document."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="muted">{escape(_subtitle(files))}</p>',
    ]
    if len(sections) > 1:
        links = "".join(
            f'<li><a href="#model-{i}">{escape(section.model)}</a></li>'
            for i, section in enumerate(sections)
        )
        body.append(f'<nav aria-label="Models"><ul>{links}</ul></nav>')
    body.append(_notes(files, [line for section in sections for line in section.lines]))
    for i, section in enumerate(sections):
        body.append(_section(section, f"model-{i}"))
    body.append("<h2>Where this was measured</h2>")
    body.append(_machines(files))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body>\n</html>\n"
    )


def _subtitle(files: Sequence[File]) -> str:
    count = sum(len(file.results.measurements) for file in files)
    days = sorted({file.results.created[:10] for file in files})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    what = f"{count} measurement{'s' if count != 1 else ''}"
    return f"{what} in {len(files)} file{'s' if len(files) != 1 else ''}, measured {span}"


def _notes(files: Sequence[File], lines: Sequence[Line]) -> str:
    """What the reader has to know before the plots."""
    notes = [(file.label, text) for file in files for text in file.results.warnings]
    for line in lines:
        for one in line.measurements:
            texts = list(one.warnings)
            if not one.is_complete:
                texts.insert(0, "ended early; its figures are those until then")
            where = f"{line.label}, {workload_of(one.configuration)}"
            notes += [(where, text) for text in texts]
    notes += [
        (f"{file.label}, {workload_of(item.configuration)}", f"skipped: {item.reason}")
        for file in files
        for item in file.results.skipped
    ]
    if not notes:
        return ""
    # Those that differ in their numbers alone are one, or they would fill the first screens.
    groups: dict[str, list[tuple[str, str]]] = {}
    for note in dict.fromkeys(notes):
        groups.setdefault(re.sub(r"[0-9][0-9.,]*", "#", note[1]), []).append(note)
    items = "".join(f"<li>{_note(some)}</li>" for some in groups.values())
    return (
        '<aside class="notes" aria-label="To know before reading"><strong>To know before '
        f"reading</strong><ul>{items}</ul></aside>"
    )


def _note(some: Sequence[tuple[str, str]]) -> str:
    where, text = some[0]
    first = escape(f"{where}: {text}")
    if len(some) == 1:
        return first
    others = "".join(f"<li>{escape(f'{where}: {text}')}</li>" for where, text in some[1:])
    return (
        f"{first} <details><summary>and {len(some) - 1} more like it</summary>"
        f"<ul>{others}</ul></details>"
    )


def _section(section: Section, anchor: str) -> str:
    parts = [f'<h2 id="{anchor}">{escape(section.model)}</h2>']
    for chart in section.charts:
        wide = draw_svg(chart, prefix=f"{anchor}-{chart.name}-w", is_narrow=False)
        narrow = draw_svg(chart, prefix=f"{anchor}-{chart.name}-n", is_narrow=True)
        label = escape(f"{chart.title}. {chart.summary}", quote=True)
        parts.append(
            f"<h3>{escape(chart.title)}</h3>\n"
            f'<figure role="img" aria-label="{label}">\n'
            f'<div class="wide">{wide}</div>\n<div class="narrow">{narrow}</div>\n'
            f'</figure>\n<p class="muted">{escape(chart.caption)}</p>'
        )
    parts.append("<h3>All figures</h3>")
    parts.append(_table(section.lines))
    return "\n".join(parts)


def _table(lines: Sequence[Line]) -> str:
    present = [
        name
        for name in _FIGURES
        if any(one.figures.get(name) for line in lines for one in line.measurements)
    ]
    # Where requests are single rows, both rates are the same.
    if all(one.configuration.rows == 1 for line in lines for one in line.measurements):
        present = [name for name in present if name != "rows_per_s"]
    several = len(lines) > 1
    head = ['<th scope="col" class="text">Line</th>'] if several else []
    head.append('<th scope="col" class="text">Load</th>')
    head += [f'<th scope="col">{escape(quantities.label(name))}</th>' for name in present]
    rows = []
    for line in lines:
        for one in sorted(line.measurements, key=lambda m: _order(workload_of(m.configuration))):
            load = escape(str(workload_of(one.configuration)))
            cells = [f'<th scope="row" class="text">{escape(line.label)}</th>'] if several else []
            cells.append(
                f'<td class="text">{load}</td>'
                if several
                else f'<th scope="row" class="text">{load}</th>'
            )
            cells += [f"<td>{_cell(one.figures, one.ci, name)}</td>" for name in present]
            rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<div class="scroll" role="region" aria-label="All figures" tabindex="0"><table>'
        f"<caption>{_caption(lines)}</caption>"
        f"<thead><tr>{''.join(head)}</tr></thead>\n<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _caption(lines: Sequence[Line]) -> str:
    has_rounds = any(one.rounds for line in lines for one in line.measurements)
    what = "Medians of the repetitions"
    if has_rounds:
        what += ", where there were several rounds the means of these"
    return f"{what}; ± half of the 95 % interval."


def _order(workload: Any) -> tuple[Any, ...]:
    return (workload.scenario, workload.rows, workload.load)


def _cell(figures: Mapping[str, float], ci: Mapping[str, tuple[float, float]], name: str) -> str:
    if name not in figures:
        return _NONE
    value = figures[name]
    text = escape(quantities.text(name, value))
    if name in _WITH_INTERVAL and name in ci and value > 0:
        low, high = ci[name]
        text += f' <span class="interval">±{100 * (high - low) / 2 / value:.2g} %</span>'
    return text


def _machines(files: Sequence[File]) -> str:
    facts = [_facts(file) for file in files]
    names = list(dict.fromkeys(name for each in facts for name in each))
    head = "".join(f'<th scope="col" class="text">{escape(file.label)}</th>' for file in files)
    rows = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="text">{each.get(name, _NONE)}</td>' for each in facts)
        + "</tr>"
        for name in names
    ]
    return (
        '<div class="scroll" role="region" aria-label="Machines" tabindex="0">'
        '<table class="facts"><caption>Fingerprints of the files.</caption>'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _facts(file: File) -> dict[str, str]:
    """Lines of HTML by name."""
    print_ = file.results.fingerprint
    machine = _mapping(print_.get("machine"))
    gpu = _mapping(machine.get("gpu"))
    cards = [str(_mapping(item).get("name")) for item in gpu.get("devices") or ()]
    usable = machine.get("affinity")
    cores = machine.get("cores")
    memory = machine.get("memory_bytes")
    facts = {
        "File": file.path,
        "Measured": file.results.created,
        "Processor": machine.get("cpu"),
        "Cores": f"{cores}, {len(usable)} usable" if isinstance(usable, list) else cores,
        "Memory": f"{memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else None,
        "GPU": ", ".join(cards) + f", driver {gpu.get('driver')}" if cards else None,
        "Kernel": machine.get("kernel"),
        "Libraries": ", ".join(
            f"{name} {version}"
            for name, version in _mapping(print_.get("versions")).items()
            if version
        ),
        "Models": "; ".join(
            f"{name}: sha256 {str(_mapping(model).get('sha256'))[:12]}"
            for name, model in _mapping(print_.get("models")).items()
        ),
        "Server": " ".join(
            str(value)
            for key, value in _mapping(print_.get("server")).items()
            if key in ("name", "version")
        ),
    }
    made = {name: escape(str(value)) for name, value in facts.items() if value}
    return made | {"Command": f"<code>{escape(shlex.join(file.results.command))}</code>"}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
