"""`python -m bench.gpu`: full-size models on an accelerator, bare and through the engine.

Weights are random, because the cost of a forward depends on shapes and number formats only. T(rows)
is measured eager, as a replayed CUDA graph and compiled, next to the rate of a large matrix product
on the same device. Then the strategies of `bench.engine` render the same traces on the wall clock,
and one request is timed from its prompt to an encoded picture. Each part adds its figures to one
JSON file as soon as it has them, so parts can run separately and a stopped part loses nothing.
"""
