"""Other servers, measured as this one is: python -m benchmarks.peers; see the README beside."""
