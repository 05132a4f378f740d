#!/usr/bin/env bash
# Builds, tests and measures on a machine with a GPU, and prints a table last: a line for each part,
# PASS, FAIL or SKIPPED, with its figure or the reason.
#
#   benchmarks/gpu/check.sh [--no-build] [--onnxruntime FOLDER]
#
# --no-build: test the pyruntime that is installed.
# --onnxruntime: folder of ONNX Runtime's library with its CUDA provider, where no wheel has them.
#
# Needs no package index: what it builds with and tests with is taken from the Python that PYTHON
# names (python3 otherwise): cmake, ninja, pybind11, cython, numpy, pytest, onnx. cuDNN and cuBLAS
# are found in the nvidia-* wheels or PyTorch's. What is missing is said.
#
# Exit status: 0 when nothing failed.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
python=${PYTHON:-python3}
builds=1
while [ $# -gt 0 ]; do
  case $1 in
    --no-build) builds=0 ;;
    --onnxruntime)
      [ $# -gt 1 ] || { echo "--onnxruntime: expected a folder" >&2; exit 2; }
      library=$(find "$2" -maxdepth 1 -name 'libonnxruntime.so.*' | sort | tail -n 1)
      [ -n "$library" ] || { echo "--onnxruntime: no libonnxruntime.so.* in '$2'" >&2; exit 2; }
      PYRUNTIME_ONNXRUNTIME=$(realpath "$library")
      export PYRUNTIME_ONNXRUNTIME
      shift ;;
    *) echo "usage: benchmarks/gpu/check.sh [--no-build] [--onnxruntime FOLDER]" >&2; exit 2 ;;
  esac
  shift
done
export PYTHONSAFEPATH=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
table=$work/table
failures=0

# note STATE PART WHAT
note() {
  printf '%-8s %-22s %s\n' "$1" "$2" "$3" | tee -a "$table"
  if [ "$1" = FAIL ]; then failures=$((failures + 1)); fi
}

# As the driver says, in one line: "" where there is a GPU.
why_no_gpu() {
  "$python" - <<'PY'
import ctypes
import os

name = os.environ.get("PYRUNTIME_CUDA_DRIVER") or "libcuda.so.1"
try:
    cuda = ctypes.CDLL(name)
except OSError as error:
    print(f"no GPU: {error}")
else:
    count = ctypes.c_int()
    result = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if result or not count.value:
        print(f"no GPU: {name}: result {result}, {count.value} devices")
PY
}

# The last line of a file that says something.
last_line() { grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-160; }

# pytest PART TEST...: a part that is a test. Its figures are what the tests say.
pytest_part() {
  local part=$1 log=$work/$1.log figures=$work/$1.figures status
  shift
  : >"$figures"
  echo "== $part: pytest $*"
  PYRUNTIME_GPU_FIGURES=$figures "$python" -m pytest -q -rs -p no:cacheprovider "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ]; then
    note FAIL "$part" "$(last_line "$log")"
  elif grep -q '[0-9] passed' "$log"; then
    note PASS "$part" "$(last_line "$log" | sed 's/ in .*//'); $(paste -sd ';' "$figures")"
  else
    note SKIPPED "$part" "$(sed -n 's/^SKIPPED \[[0-9]*\] [^ ]* //p' "$log" | sort -u | head -n 1)"
  fi
}

# native PART TEST...: C++ tests, on the real driver. Those that a driver's absence skips say so.
native_part() {
  local part=$1 log=$work/$1.log
  shift
  : >"$log"
  for name in "$@"; do
    echo "== $part: $name"
    if [ ! -x "build/gpu/$name" ]; then
      note SKIPPED "$part" "build/gpu/$name was not built"
      return
    fi
    if ! env -u PYRUNTIME_TEST_CUDA_DRIVER "build/gpu/$name" 2>&1 | tee -a "$log"; then
      note FAIL "$part" "$name: $(last_line "$log")"
      return
    fi
  done
  if grep -q 'skipped: cuda' "$log"; then
    note SKIPPED "$part" "$(grep -m 1 'skipped: cuda' "$log")"
  else
    note PASS "$part" "$(grep -c 'test cases:' "$log") programs, $(
      sed -n 's/.*assertions: *\([0-9]*\).*/\1/p' "$log" | awk '{ sum += $1 } END { print sum }'
    ) assertions"
  fi
}

build_part() {
  local log=$work/build.log
  if [ "$builds" = 0 ]; then
    note SKIPPED build "--no-build"
    return
  fi
  if ! "$python" -m pip install --no-index --no-build-isolation --no-deps . 2>&1 | tee "$log"; then
    note FAIL build "$(last_line "$log")"
    return
  fi
  if ! { cmake -S csrc --preset release -B build/gpu -DPYRUNTIME_BUILD_TESTS=ON -DPYRUNTIME_BUILD_BENCHMARKS=ON \
      -DPython_EXECUTABLE="$(command -v "$python")" && cmake --build build/gpu; } 2>&1 | tee "$log"; then
    note FAIL build "tests: $(last_line "$log")"
    return
  fi
  note PASS build "$("$python" -c 'import pyruntime; print(pyruntime.__version__)')"
}

sanitizer_part() {
  local log=$work/sanitizer.log tool
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  if [ -z "$tool" ]; then
    note SKIPPED compute-sanitizer "compute-sanitizer is not installed"
  elif [ ! -x build/gpu/memory_test_device_contract ]; then
    note SKIPPED compute-sanitizer "build/gpu/memory_test_device_contract was not built"
  elif "$tool" --error-exitcode 9 env -u PYRUNTIME_TEST_CUDA_DRIVER \
      build/gpu/memory_test_device_contract 2>&1 | tee "$log"; then
    note PASS compute-sanitizer "$(last_line "$log")"
  else
    note FAIL compute-sanitizer "$(last_line "$log")"
  fi
}

bench_part() {
  local log=$work/bench.log
  if [ ! -x build/gpu/bench_gpu ]; then
    note SKIPPED bench_gpu "build/gpu/bench_gpu was not built"
    return
  fi
  if build/gpu/bench_gpu 2>&1 | tee "$log"; then
    note PASS bench_gpu "$(grep -c '^{' "$log") lines above; $(last_line "$log")"
  else
    note FAIL bench_gpu "$(last_line "$log")"
  fi
}

parts=(build contract pools scheduler node-tests parity stress out-of-memory load-cycles
  compute-sanitizer bench_gpu)
reason=$(why_no_gpu)
if [ -n "$reason" ]; then
  for part in "${parts[@]}"; do note SKIPPED "$part" "$reason" >/dev/null; done
else
  build_part
  native_part contract memory_test_device_contract schedule_test_device_memory
  native_part pools memory_test_buffer_pool
  native_part scheduler schedule_test_scheduler schedule_test_stress
  pytest_part node-tests tests/gpu/test_gpu_networks.py -k node_tests
  pytest_part parity tests/gpu/test_gpu_networks.py -k as_on_the_cpu
  pytest_part stress tests/gpu/test_gpu_stress.py
  pytest_part out-of-memory tests/gpu/test_gpu_memory.py -k was_short
  pytest_part load-cycles tests/gpu/test_gpu_memory.py -k give_memory_back
  sanitizer_part
  bench_part
fi

echo
"$python" -c 'import platform; print("machine:", platform.node(), platform.platform())'
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | sed 's/^/gpu: /'
fi
cat "$table"
[ "$failures" -eq 0 ]
