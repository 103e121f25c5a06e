"""`python -m bench.gpu`: models of full size on an accelerator, alone and through the engine.

Weights are random: the cost of a forward depends only on shapes and number formats. T(rows) is
measured eager, as a replayed CUDA graph and compiled, and compared with the rate of a large matrix
product on the same device. Then the strategies of `bench.engine` render the same traces in
wall-clock time, and one request is followed from its prompt to an encoded picture. Each part adds
its figures to one JSON file as soon as it has them, so that parts can run separately and nothing is
lost when a later one is stopped.
"""
