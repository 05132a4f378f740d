"""Other servers, measured as this one is: python -m benchmarks.peers; see the README beside."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

# With -m the current folder comes first, and with it the package's sources, which are not built.
sys.path.sort(key=lambda entry: Path(entry or ".").resolve() == _ROOT)
