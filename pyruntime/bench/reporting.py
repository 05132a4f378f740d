"""Writes a page of plots from results."""

import os
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from pyruntime.bench.page.charts import make_charts
from pyruntime.bench.page.document import Section, write_page
from pyruntime.bench.page.lines import make_lines, read_files
from pyruntime.bench.page.plots import draw_png
from pyruntime.bench.page.prices import Price, costs, parse_price
from pyruntime.bench.results import Results
from pyruntime.errors import InvalidInput

__all__ = ["report"]


def report(
    *inputs: str | os.PathLike[str] | Results,
    output: str | os.PathLike[str],
    labels: Sequence[str] | None = None,
    prices: Sequence[str | Price] = (),
    images: bool = True,
    title: str = "Benchmark report",
) -> list[Path]:
    """Write one HTML file that needs no other, and its plots as PNG beside it.

    inputs: results of `bench run`, as files or in memory. labels: of these; None: their names.
    prices: "NAME=0.53/h", NAME that of a file, line, target or device.
    images: whether to write OUTPUT-MODEL-PLOT.png too.

    Returns the files written, the page first. Raises InvalidInput, Unavailable (no matplotlib).
    """
    page = Path(output)
    if not page.parent.is_dir():
        raise InvalidInput(f"output {page}: expected a file in a folder that exists")
    files = read_files(inputs, labels)
    lines = make_lines(files)
    parsed = [parse_price(price) if isinstance(price, str) else price for price in prices]
    costs(lines, parsed)  # names are checked against all models
    sections = []
    for model, some in groupby(sorted(lines, key=lambda line: line.model), lambda one: one.model):
        its = list(some)
        named = set().union(*(line.names for line in its))
        charts = make_charts(its, costs(its, [price for price in parsed if price.name in named]))
        sections.append(Section(model, its, charts))
    text = write_page(files, sections, title)
    written = [page]
    if images:
        for section in sections:
            for chart in section.charts:
                name = re.sub(r"[^\w.+-]", "_", section.model)
                prefix = f"{page.stem}-{name}" if len(sections) > 1 else page.stem
                written.append(page.with_name(f"{prefix}-{chart.name}.png"))
                draw_png(chart, written[-1])
    page.write_text(text, encoding="utf-8")
    return written
