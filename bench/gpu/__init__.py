"""`python -m bench.gpu`: what an accelerator gives to models of full size, alone and through the engine.

Weights are random: what a forward costs depends on shapes and number formats alone. T(rows) is measured
eager, as a replayed CUDA graph and compiled, beside the rate of a large matrix product on the same
device; then the strategies of `bench.engine` render the same traces in the time of day, and one request is
followed from its prompt to an encoded picture. Each part adds its figures to one JSON file as soon as
it has them, so that parts can be run by themselves and nothing is lost when a later one is stopped.
"""
