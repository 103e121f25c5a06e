"""Benchmarks: what the farm costs and gains beside what people glue together today."""
