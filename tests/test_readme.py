"""The README's examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def example(name: str) -> str:
    """The fenced block that follows <!-- test: NAME -->."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, f"README.md: no example named {name}"
    return found[1]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_library_example_answers() -> None:
    pytest.importorskip("onnxruntime")
    lines = run(example("library")).splitlines()
    assert "TensorSpec(name='image'" in lines[0]
    assert lines[1].endswith("(1, 10)")
    assert len(lines[2].split(",")) == 32
    assert lines[3] == "32 answers"
    assert lines[4].startswith("65 requests in ")


def test_endpoint_example_answers() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tritonclient.grpc")
    command = [sys.executable, "-P", "-m", "pyruntime", "serve", "pyruntime/demo/repository"]
    with subprocess.Popen(
        [*command, "--grpc", "127.0.0.1:0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = next(
                found[1]
                for line in server.stdout
                if (found := re.search(r"127\.0\.0\.1:(\d+)", line))
            )
            answer = run(example("endpoint").replace("localhost:8001", f"127.0.0.1:{port}"))
        finally:
            server.terminate()
            server.communicate(timeout=30)
    assert re.fullmatch(r"\[\d\]\n", answer)
    assert server.returncode == 0


@pytest.mark.parametrize("name", ["try", "test"])
def test_commands_are_marked_for_the_ci(name: str) -> None:
    text = (ROOT / "README.md").read_text()
    assert re.search(rf"<!-- ci: {name} -->\n```sh\n[^\n]+\n```", text)
