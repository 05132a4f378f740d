"""The page of plots: what is on it, that it needs nothing else, and how a browser shows it."""

from __future__ import annotations

import copy
import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from results_for_tests import FINGERPRINT, measurement, results

from pyruntime.bench import report
from pyruntime.bench.files import write_results
from pyruntime.bench.page.charts import make_charts
from pyruntime.bench.page.lines import make_lines, read_files
from pyruntime.bench.page.prices import costs, parse_price
from pyruntime.bench.results import Configuration, Results, Skipped
from pyruntime.cli import main
from pyruntime.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

LOADS = (1, 2, 4, 8, 16)
SIZES = (1, 2, 4, 8, 16, 32)
# An address is in the namespaces of SVG alone, which nobody asks.
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)


def machine(
    us: float, fixed_us: float, device: str, *, model: str = "mlp", **fields: Any
) -> Results:
    """One that takes so long for a row and for a run."""
    loads = [
        measurement(
            [max(1, load / 2) * (us + fixed_us) * wobble for wobble in (1, 1.01, 0.99)],
            concurrency=load,
            device=device,
            model=model,
            spread=0.1 + load / 50,
        )
        for load in LOADS
    ]
    sizes = [
        measurement([fixed_us + us * size] * 3, rows=size, device=device, model=model)
        for size in SIZES[1:]
    ]
    return results(*loads, *sizes, **fields)


@pytest.fixture(scope="module")
def three() -> list[Results]:
    other = copy.deepcopy(FINGERPRINT)
    other["machine"]["gpu"] = {"devices": [{"name": "Example A1"}], "driver": "1.2"}
    skipped = Skipped(Configuration("mlp", "inproc", "closed", concurrency=64), "no room for it")
    return [
        machine(800, 200, "cpu", warnings=("the machine was busy",)),
        machine(60, 300, "cuda:0", fingerprint=other),
        machine(12, 250, "cuda:0", fingerprint=other, skipped=(skipped,)),
    ]


LABELS = ["c7a", "g6", "h100"]


@pytest.fixture(scope="module")
def page(three: list[Results], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib")
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(*three, output=path, labels=LABELS, prices=["c7a=$0.4/h", "g6=$0.8/h", "h100=$3/h"])
    return path


# What is drawn


def test_a_line_is_called_by_what_tells_it_apart(three: list[Results]) -> None:
    lines = make_lines(read_files(three, LABELS))
    assert [line.label for line in lines] == ["c7a, cpu", "g6, cuda:0", "h100, cuda:0"]
    assert [line.label for line in make_lines(read_files(three[:1], ["c7a"]))] == ["c7a"]
    threads = results(measurement([1], threads=1), measurement([1], threads=4))
    assert [line.label for line in make_lines(read_files([threads], None))] == [
        "1 thread",
        "4 threads",
    ]


def test_a_line_looks_the_same_for_every_model(three: list[Results]) -> None:
    files = read_files([machine(9, 9, "cpu"), machine(9, 9, "cpu", model="other")], ["a", "b"])
    both = read_files([results(measurement([1], model="x"), measurement([1], model="y"))], ["a"])
    assert [line.style for line in make_lines(both)] == [0, 0]
    assert [line.style for line in make_lines(files)] == [0, 1]


def test_files_of_one_label_are_one_machine(three: list[Results]) -> None:
    halves = [results(measurement([10, 12], rows=rows)) for rows in (1, 2)]
    again = results(measurement([14, 16], rows=1))
    (line,) = make_lines(read_files([*halves, again], ["box"] * 3))
    assert line.label == "box"
    assert [one.configuration.rows for one in line.measurements] == [1, 2]
    assert line.measurements[0].figures["p50_us"] == pytest.approx(13, rel=0.01)


def test_charts_are_made_of_what_there_is(three: list[Results]) -> None:
    lines = make_lines(read_files(three, LABELS))
    prices = [parse_price("h100=3/h")]
    charts = make_charts(lines, costs(lines, prices))
    assert [chart.name for chart in charts] == [
        "latency",
        "batch",
        "percentiles",
        "percentiles-2",
        "cost",
    ]
    assert all(chart.summary.count("h100") for chart in charts)
    single = make_lines(read_files([results(measurement([5, 5]))], None))
    assert [chart.name for chart in make_charts(single, [])] == ["percentiles"]


def test_the_knee_is_the_least_batch_with_nine_tenths_of_the_best(three: list[Results]) -> None:
    made = results(
        *(measurement([100 + 10 * size], rows=size) for size in (1, 2, 4, 8, 16, 32, 64, 128))
    )
    lines = make_lines(read_files([made], None))
    chart = next(chart for chart in make_charts(lines, []) if chart.kind == "batch")
    curve = chart.curves[0]
    # 128 rows in 1380 us are the best, 93,000 a second; 64 in 740 us are 93 % of that.
    assert curve.marked is not None
    assert (curve.x[curve.marked], curve.mark) == (64, "knee: 64 rows")


def test_percentile_curves_end_where_too_few_requests_are_beyond(three: list[Results]) -> None:
    lines = make_lines(read_files([results(measurement([100.0]))], None))
    (curve,) = make_charts(lines, [])[0].curves
    assert curve.x[-1] == pytest.approx(10 / 2000)  # 2000 requests
    assert list(curve.y) == sorted(curve.y)
    median = float(np.interp(-0.5, [-x for x in curve.x], curve.y))
    assert median == pytest.approx(0.1, rel=0.02)


def test_costs_are_of_equal_requests_at_the_best_throughput(three: list[Results]) -> None:
    lines = make_lines(read_files(three, LABELS))
    found = costs(lines, [parse_price("c7a=0.36/h"), parse_price("cuda:0=3.6 EUR/h")][:1])
    (cost,) = found
    rate = max(
        one.figures["requests_per_s"]
        for one in lines[0].measurements
        if one.configuration.rows == 1
    )
    assert cost.per_million == pytest.approx(1e6 * 0.36 / 3600 / rate)
    assert cost.rows == 1
    assert len(costs(lines, [parse_price("cuda:0=3.6/h")])) == 2


@pytest.mark.parametrize(
    ("text", "name", "per_hour", "currency"),
    [
        ("a100=3.67/h", "a100", 3.67, ""),
        ("cuda:0=$3.67/h", "cuda:0", 3.67, "$"),
        ("my=box=.5 EUR / h", "my=box", 0.5, "EUR"),
    ],
)
def test_prices_are_read(text: str, name: str, per_hour: float, currency: str) -> None:
    price = parse_price(text)
    assert (price.name, price.per_hour, price.currency) == (name, per_hour, currency)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (["a100"], "price 'a100': expected NAME=AMOUNT/h"),
        (["a=0/h"], "expected NAME=AMOUNT/h"),
        (["a=-1/h"], "expected NAME=AMOUNT/h"),
        (["zoo=1/h"], "price: expected a name among 'c7a', .*got 'zoo'"),
        (["c7a=$1/h", "g6=1 EUR/h"], "expected one currency, got '\\$', 'EUR'"),
    ],
)
def test_prices_that_fit_nothing_are_refused(
    three: list[Results], tmp_path: Path, prices: list[str], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        report(*three, output=tmp_path / "r.html", labels=LABELS, prices=prices)
    assert not list(tmp_path.iterdir())


# The document


class Document(HTMLParser):
    """Tags with their attributes, ids, and the text outside of SVG."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"https?://[^\"'\s<>]*", text)) <= NAMESPACES
    document = Document(text)
    assert not {"script", "link", "iframe", "img", "object"} & {tag for tag, _ in document.tags}
    for _, attributes in document.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    policy = next(a for tag, a in document.tags if tag == "meta" and "http-equiv" in a)
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert len(text) < 2e6


def test_ids_are_unique_and_all_that_is_referred_to_is_there(page: Path) -> None:
    text = page.read_text()
    ids = [a["id"] for _, a in Document(text).tags if "id" in a]
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'url\(#([\w-]+)\)|href="#([\w-]+)"', text))
    assert {one or other for one, other in referred} <= set(ids)


def test_colours_are_the_pages_own(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"#0[12]020\d", text)
    svg = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    # Nothing but the variables, so that light and dark both have contrast.
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000", "#ffffff"}
    assert {f"var(--line-{i})" for i in range(3)} <= set(re.findall(r"var\(--line-\d\)", svg))


def test_plots_say_what_they_show_to_those_who_do_not_see_them(page: Path) -> None:
    tags = Document(page.read_text()).tags
    figures = [a for tag, a in tags if tag == "figure"]
    assert len(figures) == 5
    for figure in figures:
        assert figure["role"] == "img"
        assert all(label in (figure["aria-label"] or "") for label in LABELS)


def test_the_tables_hold_every_measurement_and_machine(page: Path, three: list[Results]) -> None:
    document = Document(page.read_text())
    rows = sum(len(one.measurements) for one in three)
    assert sum(a.get("scope") == "row" for tag, a in document.tags if tag == "th") >= rows
    text = " ".join(document.text)
    for expected in ("closed, 16 in flight", "32 rows", "Example 3000", "Example A1, driver 1.2"):
        assert expected in text
    assert "c7a: the machine was busy" in text
    assert "h100, closed, 64 in flight: skipped: no room for it" in text


def test_labels_are_text_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evil = "<script>alert(1)</script>&"
    made = [machine(9, 9, evil), machine(9, 9, "cpu", warnings=(evil,))]
    report(*made, output=tmp_path / "r.html", labels=[evil, '"><b>'], title=evil, images=False)
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert html.escape(evil) in text


def test_a_label_of_dollars_is_not_mathematics(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report(
        machine(9, 9, "cpu"),
        machine(8, 9, "cpu"),
        output=tmp_path / "r.html",
        labels=["$a$", "$\\frac"],
        images=False,
    )
    assert "$a$" in (tmp_path / "r.html").read_text()


def test_images_are_written_beside_the_page(page: Path) -> None:
    names = {path.name for path in page.parent.iterdir()}
    plots = ("latency", "batch", "percentiles", "percentiles-2", "cost")
    assert names == {"report.html", *(f"report-{name}.png" for name in plots)}
    for path in page.parent.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


@needs_matplotlib
def test_results_of_every_kind_make_a_page(tmp_path: Path) -> None:
    made = [
        results(measurement([100])),  # one measurement
        results(
            *(measurement([100], scenario="open", concurrency=None, rate_per_s=r) for r in (9, 99))
        ),
        results(measurement([100], scenario="offline", concurrency=None, errors=5, model="b")),
        results(measurement([0.5], slo="p99=10ms", scenario="server", concurrency=None)),
        results(
            *(measurement([9], device=f"cuda:{i}", concurrency=c) for i in range(9) for c in (1, 4))
        ),
    ]
    for one in made:
        report(one, output=tmp_path / "r.html", images=False)
    report(*made, output=tmp_path / "r.html", labels=list("abcde"))
    assert (tmp_path / "r-mlp-percentiles.png").exists()


# The command


@needs_matplotlib
def test_the_command_says_what_it_wrote(three: list[Results], tmp_path: Path, capsys) -> None:
    write_results(three[0], tmp_path / "a.json")
    command = ["bench", "report", f"old={tmp_path / 'a.json'}", "-o", str(tmp_path / "p.html")]
    assert main([*command, "--price", "old=1/h"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[0] == str(tmp_path / "p.html")
    assert len(printed) == 5
    assert main([*command, "--no-png"]) == 0
    assert capsys.readouterr().out.split() == printed[:1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.json"], "gone.json: No such file"),
        (["x.json"], "x.json: expected a key 'schema'"),
        (["empty.json"], "expected measurements, got files without any"),
        (["empty.json", "-o", "no/where.html"], "expected a file in a folder that exists"),
        (["a=empty.json", "x.json"], "LABEL=FILE for all files or none, got 'x.json'"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch, capsys, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    write_results(results(), tmp_path / "empty.json")
    assert main(["bench", "report", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_without_matplotlib_it_is_said_what_to_install(
    three: list[Results], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Unavailable, match=r"pip install 'pyruntime\[bench\]'"):
        report(three[0], output=tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

# Written into a copy of the page whose policy allows it.
MEASURE = """<script>
const shown = [...document.querySelectorAll("svg")].filter(s => s.getClientRects().length);
const box = item => {
  const r = item.getBoundingClientRect();
  return [r.left, r.top, r.right, r.bottom];
};
const texts = svg => [...svg.querySelectorAll("text")]
  .filter(t => t.textContent.trim()).map(t => [t.textContent.trim(), ...box(t)]);
document.title = JSON.stringify({
  width: document.documentElement.clientWidth,
  needed: document.documentElement.scrollWidth,
  plots: shown.map(svg => ({at: box(svg), texts: texts(svg)})),
});
</script></body>"""


def chromium(tmp_path: Path, page: Path, width: int, *arguments: str) -> str:
    """What it prints. A frame makes the page as narrow as a phone, which a window cannot be."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body style="margin:0"><iframe id="page" src="{page.as_uri()}" '
        f'style="width:{width}px;height:1400px;border:0"></iframe>'
        "<script>onload = () => document.title = page.contentDocument.title</script></body>"
    )
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", "--allow-file-access-from-files", "--virtual-time-budget=5000"),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={max(600, width)},1400",
    )
    done = subprocess.run(
        [str(CHROMIUM), *flags, *arguments, frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@needs_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_all_of_it(page: Path, tmp_path: Path, width: int) -> None:
    copy_ = tmp_path / "copy.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy_.write_text(text.replace("</body>", MEASURE))
    dom = chromium(tmp_path, copy_, width, "--dump-dom")
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]))
    assert found["width"] == width
    assert found["needed"] <= width  # nothing scrolls sideways but the tables in themselves
    assert len(found["plots"]) == 5
    for plot in found["plots"]:
        left, top, right, bottom = plot["at"]
        assert right - left > 0.8 * min(width, 960) - 32
        for text_, x0, y0, x1, y1 in plot["texts"]:
            assert x0 >= left - 1, text_
            assert x1 <= right + 1, text_
            assert y0 >= top - 2, text_
            assert y1 <= bottom + 2, text_
            assert y1 - y0 > 8, f"{text_} is too small to read"
        names = [t for t in plot["texts"] if t[0].startswith(tuple(LABELS))]
        assert {name[0].split(",")[0].split(":")[0] for name in names} == set(LABELS)
        assert not overlapping(names)


def overlapping(texts: list[list[Any]]) -> list[tuple[str, str]]:
    return [
        (a[0], b[0])
        for i, a in enumerate(texts)
        for b in texts[:i]
        if a[1] < b[3] and b[1] < a[3] and a[2] + 2 < b[4] and b[2] + 2 < a[4]
    ]


@needs_chromium
def test_a_screenshot_is_readable_without_colour(page: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    shots = {}
    for width in (360, 1280):
        file = tmp_path / f"{width}.png"
        chromium(tmp_path, page, width, f"--screenshot={file}")
        shots[width] = np.asarray(image.open(file).convert("L"))[:1400, :width]
    for grey in shots.values():
        # Paper is most of it, ink and lines are dark enough to see on it.
        assert np.median(grey) > 240
        assert 0.01 < np.mean(grey < 130) < 0.25
        # Nothing ends at the edge of the screen.
        assert (grey[:, -4:] > 200).all()


def test_notes_that_differ_in_numbers_alone_are_folded(tmp_path: Path) -> None:
    each = [measurement([100.0], concurrency=n, warnings=(f"known to ±{n}.5%",)) for n in (1, 2, 3)]
    report(results(*each), output=tmp_path / "r.html", images=False)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    notes = text[text.index("<aside") : text.index("</aside>")]
    assert notes.count("<details>") == 1
    assert "closed, 1 in flight: known to ±1.5%" in notes.partition("<details>")[0]
    assert "and 2 more like it" in notes


def test_a_line_is_named_by_what_tells_it_apart_within_its_model() -> None:
    files = read_files(
        [
            results(measurement([1.0], threads=1), measurement([1.0], threads=2)),
            results(measurement([1.0], model="other", target="grpc://h:1", device=None)),
        ],
        ["here", "there"],
    )
    assert [line.label for line in make_lines(files)] == ["1 thread", "2 threads", "there"]
