"""What `import pyruntime` takes beyond NumPy's import, in new interpreters, in turns.

    python benchmarks/bench_import.py [--turns 20]

Prints one line of JSON: milliseconds from starting an interpreter to its end, the least and the
median, with nothing imported, with NumPy and with this package.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

IMPORTS = {"nothing": "pass", "numpy": "import numpy", "pyruntime": "import pyruntime"}


def elapsed_ms(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    for code in IMPORTS.values():
        elapsed_ms(code)  # compiles, and fills the caches
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(turns):
        for name, code in IMPORTS.items():
            times[name].append(elapsed_ms(code))
    print(
        json.dumps(
            {
                "benchmark": "import",
                "turns": turns,
                "least_ms": {name: round(min(values), 1) for name, values in times.items()},
                "median_ms": {
                    name: round(statistics.median(values), 1) for name, values in times.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
