"""Load on what answers requests: in this process, or behind a socket."""

from pyruntime.bench.load.target import LoadResult, Target, Usage

__all__ = ["LoadResult", "Target", "Usage"]
