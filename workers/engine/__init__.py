"""The rendezvous batching engine: unmodified pipelines, batched step by step.

Every job runs the unmodified `pipeline(**kwargs)` in a greenlet. Its modules are proxies that park
the greenlet; the engine runs equal calls of several jobs as one forward and wakes each with its
rows. Read `engine.Engine.step` first, then `model`, `park`, `rows` and `policy`.
"""
