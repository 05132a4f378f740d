"""Arrays on a GPU go in and out without a copy through the host: over the fake CUDA driver.

Each case runs in a process of its own, with stand-ins for the arrays of CuPy and its like.
"""

from pathlib import Path

import pytest
from test_cuda import ECHO, driver, run

__all__ = ["driver"]

PRELUDE = (
    ECHO
    + f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent / "fake_cuda")!r})
import standins
from standins import Memory, Stream, WithDLPack, WithInterface, control, set_delay_us

x = np.arange(8, dtype="f4").reshape(2, 4)
runtime = pyruntime.Runtime()

def error_of(model, value, **options):
    try:
        model.infer({{"x": value}}, **options)
    except pyruntime.PyRuntimeError as error:
        return f"{{type(error).__name__}}: {{error}}"
    return "nothing"
"""
)


def check(code: str, driver: Path) -> list[str]:
    """Run `code` after the prelude, free of misuse; gives the lines that it printed."""
    done = run(f"{PRELUDE}\n{code}\nruntime.close()", driver)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["WithDLPack", "WithInterface"])
def test_an_array_on_the_gpu_goes_in(driver: Path, kind: str) -> None:
    code = f"""
model = load(runtime)
stream = Stream()
set_delay_us(2000)  # what the owner has given to its stream is not done yet
for i in range(5):
    memory = Memory(x + i, stream)
    value = {kind}(memory)
    assert (model.infer({{"x": value}})["output_0"] == x + i).all()
    memory.free()
print(control.misuse_count(), model.stats().inputs_copied)
"""
    assert check(code, driver) == ["0 0"]


@pytest.mark.parametrize("value", ["WithDLPack(m, waits=False)", "WithInterface(m, stream=None)"])
def test_a_wait_that_the_owner_leaves_out_is_found(driver: Path, value: str) -> None:
    code = f"""
model = load(runtime)
set_delay_us(2000)
m = Memory(x, Stream())
model.infer({{"x": {value}}})
print(control.misuse_count() > 0, control.last_misuse().decode())
"""
    [line] = check(code, driver)
    assert line == ("True work given to a stream without waiting for another's on the same memory")


def test_submit_and_infer_async_take_them_too_and_mix_them_with_the_host_s(driver: Path) -> None:
    code = """
import asyncio
model = load(runtime)
stream = Stream()
set_delay_us(500)
memories = [Memory(x + i, stream) for i in range(40)]
values = [WithDLPack(m) if i % 2 else m.values for i, m in enumerate(memories)]
futures = [model.submit({"x": value}) for value in values]
assert all((f.result(10)["output_0"] == x + i).all() for i, f in enumerate(futures))

async def main():
    results = await asyncio.gather(*(model.infer_async({"x": value}) for value in values))
    assert all((r["output_0"] == x + i).all() for i, r in enumerate(results))

asyncio.run(main())
del futures
print(control.misuse_count())
print(sum(v.taken for v in values[1::2]))
"""
    assert check(code, driver) == ["0", "0"]


def test_an_input_is_kept_until_its_request_is_done(driver: Path) -> None:
    code = """
import gc
model = load(runtime)
value = WithDLPack(Memory(x, Stream()))
set_delay_us(100_000)
future = model.submit({"x": value})
print(value.taken)
future.result(10)
del future
gc.collect()
print(value.taken, value.streams[0] > 2)
try:
    model.submit({"x": value, "y": x})
except pyruntime.InvalidInput as error:
    print(error)
gc.collect()
print(value.taken)
"""
    assert check(code, driver) == [
        "1",
        "0 True",
        "input 'y' is unknown: expected 'x'",
        "0",
    ]


def test_outputs_stay_on_the_gpu(driver: Path) -> None:
    code = """
model = load(runtime)
output = model.infer({"x": x}, outputs_on="device")["output_0"]
print(output, output.shape, output.dtype, output.device, output.nbytes, len(output))
assert (output.numpy() == x).all()

interface = output.__cuda_array_interface__
print(interface["shape"], interface["typestr"], interface["strides"], interface["stream"])
address = interface["data"][0]
assert (standins.read_address(address, (2, 4), "f4") == x).all()

print(output.__dlpack_device__())
values, delete = standins.take_capsule(output.__dlpack__(stream=-1, max_version=(1, 0)), "f4")
assert (values == x).all()
del output
assert (standins.read_address(address, (2, 4), "f4") == x).all()  # the capsule's taker has it
delete()

again = model.infer({"x": model.infer({"x": x}, outputs_on="device")["output_0"]})["output_0"]
assert (again == x).all()
future = model.submit({"x": x}, outputs_on="device")
assert (future.result(10)["output_0"].numpy() == x).all()
print(control.misuse_count())
"""
    assert check(code, driver) == [
        "<DeviceArray float32[2, 4] on cuda:0> (2, 4) float32 cuda:0 32 2",
        "(2, 4) <f4 None None",
        "(2, 0)",
        "0",
    ]


def test_an_output_outlives_its_model_and_its_memory_goes_back(driver: Path) -> None:
    code = """
import gc
import time
model = load(runtime)
output = model.infer({"x": x}, outputs_on="device")["output_0"]
capsule = output.__dlpack__(stream=1)
model.unload()
assert (output.numpy() == x).all()
assert control.used_bytes(0) > 0
del output
assert control.used_bytes(0) > 0
del capsule  # nobody took it
deadline = time.monotonic() + 10
while control.used_bytes(0) and time.monotonic() < deadline:
    time.sleep(0.001)
print(control.used_bytes(0), control.misuse_count())
"""
    assert check(code, driver) == ["0 0"]


def test_what_cannot_be_taken_is_said(driver: Path) -> None:
    code = """
gpu, host = load(runtime), load(pyruntime.Runtime(), "cpu")
here, there = Memory(x, Stream()), Memory(x, Stream(1))
wide = Memory(x.astype("c8"), Stream())
print(error_of(gpu, WithDLPack(there)))
print(error_of(gpu, WithInterface(there)))
print(error_of(host, WithDLPack(here)))
print(error_of(host, WithInterface(here)))
print(error_of(host, x, outputs_on="device"))
print(error_of(gpu, x, outputs_on="gpu"))
print(error_of(gpu, WithDLPack(here, strides=(1, 2))))
print(error_of(gpu, WithInterface(here, strides=(4, 8))))
print(error_of(gpu, WithDLPack(wide)))
print(error_of(gpu, WithInterface(wide)))
print(error_of(gpu, WithInterface(here, stream=0)))
print(error_of(gpu, WithInterface(here, mask=object())))
print(error_of(gpu, WithInterface(here, data=(x.ctypes.data, False))))
print(error_of(gpu, WithInterface(here, shape=None)))
print(error_of(gpu, WithInterface(Memory(x.astype("f8"), Stream()))))
print(control.misuse_count())
"""
    lines = check(code, driver)
    elsewhere = "InvalidInput: input 'x': expected memory on 'cpu' or 'cuda:0', got 'cuda:1'"
    assert lines[:2] == [elsewhere, elsewhere]
    assert lines[2] == "InvalidInput: input 'x': expected memory on 'cpu', got 'cuda:0'"
    assert lines[3] == "InvalidInput: input 'x': expected memory on 'cpu', got memory of a GPU"
    assert lines[4] == (
        "InvalidInput: outputs: expected on 'cpu', as the model does not run on one GPU; they were "
        "asked to stay on the device"
    )
    assert lines[5] == "InvalidInput: outputs_on: expected 'host' or 'device', got 'gpu'"
    assert all("expected a row-major, contiguous array" in line for line in lines[6:8])
    assert "64 bits of DLPack type 5" in lines[8]
    assert "expected float32, got an array of '<c8'" in lines[9]
    assert "expected None, 1, 2 or a stream's address as the interface's stream" in lines[10]
    assert "expected an array without a mask" in lines[11]
    assert "input 'x': expected memory of a GPU: cuPointerGetAttribute" in lines[12]
    assert "expected shape, typestr and data in __cuda_array_interface__" in lines[13]
    assert lines[14] == "InvalidInput: input 'x': expected float32[*, 4], got float64[2, 4]"
    assert lines[15] == "0"
    assert all(line.startswith("InvalidInput: ") for line in lines[:15])


def test_an_array_of_another_form_of_dlpack_is_refused_without_a_leak(driver: Path) -> None:
    code = """
class Odd(WithDLPack):
    def __dlpack__(self, **options):
        return "no capsule"

class Failing(WithDLPack):
    def __dlpack__(self, **options):
        raise BufferError("not today")

model = load(runtime)
memory = Memory(x, Stream())
print(error_of(model, Odd(memory)))
print(error_of(model, Failing(memory)))
output = model.infer({"x": x}, outputs_on="device")["output_0"]
for options in ({"copy": True}, {"dl_device": (1, 0)}, {"stream": 0}):
    try:
        output.__dlpack__(**options)
    except (BufferError, ValueError) as error:
        print(type(error).__name__)
"""
    assert check(code, driver) == [
        "InvalidInput: input 'x': __dlpack__ gave no DLPack capsule",
        "InvalidInput: input 'x': expected float32, got Failing: not today",
        "BufferError",
        "BufferError",
        "ValueError",
    ]
