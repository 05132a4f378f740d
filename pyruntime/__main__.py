"""`python -m pyruntime` is `pyruntime`."""

import sys

from pyruntime.cli import main

if __name__ == "__main__":
    sys.exit(main())
