"""The show of `pyruntime demo`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime import __version__
from pyruntime.commands.signals import StopSignal
from pyruntime.commands.table import table
from pyruntime.demo import MODEL, REPOSITORY, test_images
from pyruntime.demo.pictures import draw_row, wants_colour

if TYPE_CHECKING:
    from pyruntime.client import Client
    from pyruntime.demo import TestImages
    from pyruntime.demo.latency import Latency
    from pyruntime.frontends import FrontEnd
    from pyruntime.runtime import Runtime

_DEFAULT_ADDRESS = "127.0.0.1:8001"
_SHOWN = 8
_GAP = 2
_LEFT = 8  # columns before the first picture
_DRAIN_S = 5.0


def show(*, once: bool, address: str | None) -> int:
    """Serve, show, and unless `once` go on serving until asked to stop."""
    from pyruntime.client import Client
    from pyruntime.repository import ModelRepository
    from pyruntime.runtime import Runtime

    _say(f"pyruntime {__version__}: handwritten digits, served from a C++ core\n")
    with (
        StopSignal() as stop,
        tempfile.TemporaryDirectory(prefix="pyruntime-") as folder,
        Runtime() as runtime,
        ModelRepository(REPOSITORY, runtime=runtime) as repository,
    ):
        for status in repository.index():
            if status.is_failed:
                _say(f"{status.model} version {status.version}: {status.reason}")
                return 1
        server = _start(runtime, address, once=once, socket=Path(folder) / "grpc.sock")
        try:
            target = server.addresses[0]
            _say(f"listening on {' and '.join(server.addresses)} (gRPC)\n")
            with Client(target) as client:
                _show_predictions(client, [model.version for model in runtime.models()])
            if not stop.is_set:
                _show_latency(runtime, server)
            if not (once or stop.is_set):
                _say(f"\nStill serving. Try:  pyruntime infer {target} {MODEL} --random")
                _say("Ctrl-C ends it.")
                stop.wait()
            server.drain(_DRAIN_S)
        finally:
            server.stop()
    return 0


def _start(runtime: Runtime, address: str | None, *, once: bool, socket: Path) -> FrontEnd:
    """Listen on `address`, by default on the usual port or else any, and on a Unix socket."""
    from pyruntime.frontends import FrontEndOptions, front_end

    anywhere = "127.0.0.1:0"
    choices = [address] if address else [anywhere] if once else [_DEFAULT_ADDRESS, anywhere]
    for choice in choices:
        options = FrontEndOptions(addresses=(choice, f"unix:{socket}"))
        server = front_end("grpc")(runtime, options)
        try:
            server.start()
        except OSError as error:
            if choice is choices[-1]:
                raise
            _say(f"{error.strerror}; choosing another port")
        else:
            return server
    raise AssertionError("no choice was made")


def _show_predictions(client: Client, versions: list[int]) -> None:
    """Print each version's accuracy, and a few images beside what was read in them."""
    test = test_images()
    read: dict[int, np.ndarray[Any, Any]] = {}
    rows = []
    for version in versions:
        answer = client.infer(MODEL, {"image": test.images}, version=str(version))
        metadata = client.metadata(MODEL, str(version))
        read[version] = answer.outputs["label"]
        right = int((read[version] == test.labels).sum())
        share = f"{100 * right / len(test.labels):.1f} %"
        what = metadata.properties.get("description", "")
        rows.append((MODEL, str(version), share, f"{right} of {len(test.labels)}", what))
    header = ("model", "version", "accuracy", "images never trained on", "")
    _say(_indented(table(rows, header=header, right=(1, 2))) + "\n")

    chosen = _choose(test, read)
    pictures = [test.images[i, 0] for i in chosen]
    for line in draw_row(pictures, gap=_GAP, colour=wants_colour(), plain=not _is_unicode()):
        _say(" " * _LEFT + line)
    _say(_labels("truth", [str(test.labels[i]) for i in chosen]))
    for version, labels in read.items():
        marks = [f"{labels[i]}" + ("" if labels[i] == test.labels[i] else " wrong") for i in chosen]
        _say(_labels(f"v{version}", marks))


def _choose(test: TestImages, read: dict[int, np.ndarray[Any, Any]]) -> list[int]:
    """Pick the first two images that versions read differently, then the first of other digits."""
    labels = list(read.values())
    differs = np.flatnonzero(np.any([other != labels[0] for other in labels], axis=0))
    chosen = [int(i) for i in differs[:2]]
    seen = {int(test.labels[i]) for i in chosen}
    for index, label in enumerate(test.labels):
        if len(chosen) == _SHOWN:
            break
        if int(label) not in seen:
            seen.add(int(label))
            chosen.append(index)
    return sorted(chosen, key=lambda i: int(test.labels[i]))


def _show_latency(runtime: Runtime, server: FrontEnd) -> None:
    from pyruntime.demo import latency

    model = runtime.model(MODEL)
    over_grpc = latency.measure_grpc(server.addresses)
    measured: dict[str, Latency] = {}
    here = latency.measure_in_process(model)
    measured["ONNX Runtime, its own Python call"] = here["bare"]
    measured["pyruntime, in process"] = here["in process"]
    for address, value in over_grpc.items():
        kind = "Unix socket" if address.startswith("unix:") else "TCP"
        measured[f"pyruntime, gRPC over {kind}"] = value
    micro = "µs" if _is_unicode() else "us"
    times = "×" if _is_unicode() else "x"  # noqa: RUF001
    rows = [
        (
            way,
            f"{value.p50_us:.1f} {micro}",
            f"{value.p99_us:.1f} {micro}",
            f"{value.p50_us / here['bare'].p50_us:.2f} {times}",
        )
        for way, value in measured.items()
    ]
    header = (f"one image, {MODEL} version {model.version}", "p50", "p99", "p50 to bare")
    _say("\n" + _indented(table(rows, header=header, right=(1, 2, 3))))


def _labels(title: str, texts: list[str]) -> str:
    cells = "".join(f"{text:<{8 + _GAP}}" for text in texts)
    return f"  {title:<{_LEFT - 2}}{cells}".rstrip()


def _indented(text: str) -> str:
    return "  " + text.replace("\n", "\n  ")


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _say(text: str) -> None:
    print(text, flush=True)
