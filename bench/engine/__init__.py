"""Benchmark of the engine's scheduling against the alternatives, on traces of jobs."""
