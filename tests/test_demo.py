"""`pyruntime demo`, and what it ships."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pyruntime.demo import FOLDER, REPOSITORY, test_images
from pyruntime.demo.pictures import draw_row
from pyruntime.repository import ModelRepository

COMMAND = [sys.executable, "-P", "-m", "pyruntime.cli", "demo"]


def test_shipped_files_are_small() -> None:
    files = [*REPOSITORY.rglob("*.onnx"), FOLDER / "test_images.npz"]
    assert sum(path.stat().st_size for path in files) < 300_000


def test_both_versions_read_images_they_have_never_seen() -> None:
    held_out = test_images()
    assert held_out.images.shape == (450, 1, 8, 8)
    assert set(held_out.labels) == set(range(10))
    with ModelRepository(REPOSITORY) as repository:
        accuracy = {}
        for model in repository.runtime.models():
            outputs = model.infer({"image": held_out.images})
            np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-5)
            accuracy[model.version] = (outputs["label"] == held_out.labels).mean()
            assert model.metadata["test_accuracy"] == f"{100 * accuracy[model.version]:.1f} %"
    assert accuracy[1] > 0.93
    assert accuracy[2] > 0.98


def test_images_were_held_out_of_training() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    model_selection = pytest.importorskip("sklearn.model_selection")
    digits = datasets.load_digits()
    train, test, _, labels = model_selection.train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=20, stratify=digits.target
    )
    held_out = test_images()
    np.testing.assert_array_equal(held_out.images[:, 0], test)
    np.testing.assert_array_equal(held_out.labels, labels)
    seen = {image.tobytes() for image in train}
    assert not [image for image in test if image.tobytes() in seen]


def test_demo_once_shows_everything_and_leaves_nothing() -> None:
    before = set(Path(tempfile.gettempdir()).glob("pyruntime-*"))
    done = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert re.search(r"digits +2 +99\.\d % +44\d of 450", done.stdout)
    for way in ("ONNX Runtime", "in process", "gRPC over TCP", "gRPC over Unix socket"):
        assert re.search(rf"{way}.* [\d.]+ µs +[\d.]+ µs +[\d.]+ ×$", done.stdout, re.M)  # noqa: RUF001
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "\x1b" not in done.stdout
    assert set(Path(tempfile.gettempdir()).glob("pyruntime-*")) == before


def test_demo_without_unicode_still_draws() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, "--once"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "#" in done.stdout


def test_demo_serves_until_ctrl_c() -> None:
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    import tritonclient.grpc as triton

    process = subprocess.Popen(
        [*COMMAND, "--grpc", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        address = ""
        for line in process.stdout:
            if found := re.match(r"listening on (\S+)", line):
                address = found[1]
            if line.startswith("Ctrl-C"):
                break
        held_out = test_images()
        with triton.InferenceServerClient(address) as client:
            image = triton.InferInput("image", list(held_out.images.shape), "FP32")
            image.set_data_from_numpy(held_out.images)
            labels = client.infer("digits", [image], model_version="2").as_numpy("label")
        assert (labels == held_out.labels).mean() > 0.98
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def test_demo_is_in_colour_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, "--once"], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert not errors
    assert b"\x1b[38;5;" in shown


def test_pictures_keep_their_pixels() -> None:
    image = np.zeros((8, 8))
    image[0, 0] = image[3, 1] = image[4, 2] = image[5, 2] = 16
    lines = draw_row([image, image], gap=1, colour=False)
    assert [line[:8].rstrip() for line in lines] == ["▀", " ▄", "  █", ""]
    assert lines[0][9] == "▀"
    assert draw_row([image], gap=1, colour=False, plain=True)[2].rstrip() == "  #"
