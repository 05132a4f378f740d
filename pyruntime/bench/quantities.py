"""Figures by name: which way is better, and how they read."""

__all__ = ["is_better_higher", "label", "text"]

_LABELS = {
    "requests_per_s": "requests/s",
    "rows_per_s": "rows/s",
    "max_rate_per_s": "highest rate",
    "errors_share": "errors",
    "cpu_us_per_request": "CPU time a request",
    "peak_bytes": "memory, peak",
    "batch_rows_mean": "rows a batch",
    "energy_j_per_request": "energy a request",
    "ratio_to_run": "of C Run",
    "us_per_request": "time each",
}
_HIGHER = ("_per_s", "ratio_to_run")
_LOWER = ("_us", "_share", "_bytes", "us_per_request", "j_per_request")


def is_better_higher(figure: str) -> bool | None:
    """Whether more of it is better; None where it is neither."""
    if figure.endswith(_HIGHER):
        return True
    return False if figure.endswith(_LOWER) else None


def label(figure: str) -> str:
    """How a figure is called in a table."""
    if figure == "p999_us":
        return "p99.9"
    return _LABELS.get(figure) or figure.removesuffix("_us").replace("_", " ")


def text(figure: str, value: float) -> str:
    """The value with its unit."""
    if figure.endswith(("_us", "us_per_request")):
        return _scaled(value, ((1e6, "s"), (1e3, "ms"), (1.0, "us")))
    if figure.endswith("_bytes"):
        return _scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (1.0, "B")))
    if figure.endswith("j_per_request"):
        return _scaled(value, ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ")))
    if figure.endswith("_share"):
        return f"{100 * value:.3g} %"
    return digits(value) + ("/s" if figure.endswith("_per_s") else "")


def digits(value: float) -> str:
    """Three or four digits of it."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    for factor, unit in units:
        # A value below all units keeps the smallest.
        if abs(value) >= factor or factor == units[-1][0]:
            return f"{digits(value / factor)} {unit}"
    raise AssertionError
