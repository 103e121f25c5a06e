"""Benchmarks: what the farm costs and gains, compared with what teams build by hand today."""
