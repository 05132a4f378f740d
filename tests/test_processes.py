"""How a process ends with models loaded, and what a forked child may do."""

import subprocess
import sys


def run(code: str) -> str:
    """What `code` prints in a new interpreter; it has to end by itself."""
    prelude = """
import os, sys, threading, time
import numpy as np
import pyruntime
from pyruntime import Batching, ModelOptions, TensorSpec
def echo(**config):
    config = {"echo." + key: str(value) for key, value in config.items()}
    return ModelOptions(engine="echo", echo_inputs=(TensorSpec("x", "float32", (-1, 4)),),
                        config=config, batching=Batching(max_rows=1))
x = {"x": np.ones((1, 4), np.float32)}
"""
    result = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return result.stdout


def test_a_forked_child_is_refused_and_ends_by_itself() -> None:
    output = run(
        """
runtime = pyruntime.Runtime()
model = runtime.load("m", options=echo())
model.submit(x).result(10)
pid = os.fork()
if pid == 0:
    for call in (model.infer, model.submit, runtime.model("m").infer):
        try:
            call(x)
        except pyruntime.Unavailable as error:
            print("refused:", "fork" in str(error), flush=True)
    try:
        runtime.load("n", options=echo())
    except pyruntime.Unavailable as error:
        print("refused:", "fork" in str(error), flush=True)
    runtime.close()
    # One of its own works.
    with pyruntime.Runtime() as own:
        print(own.load("m", options=echo()).submit(x).result(10)["output_0"].sum(), flush=True)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(model.infer(x)["output_0"].sum())
"""
    )
    assert output.split("\n") == ["refused: True"] * 4 + ["4.0", "4.0", ""]


def test_a_process_ends_well_with_everything_left_open() -> None:
    output = run(
        """
runtime = pyruntime.Runtime()
model = runtime.load("m", options=echo(delay_us=20000))
for i in range(5):
    model.submit(x).add_done_callback(lambda future: print(future.result()["output_0"].sum()))
"""
    )
    assert output.split() == ["4.0"] * 5


def test_a_process_ends_well_while_threads_call() -> None:
    run(
        """
runtime = pyruntime.Runtime()
model = runtime.load("m", options=echo(delay_us=1000))
def call():
    try:
        while True:
            model.infer(x)
    except pyruntime.PyRuntimeError:
        pass
for _ in range(4):
    threading.Thread(target=call, daemon=True).start()
time.sleep(0.2)
"""
    )
