"""The rendezvous batching engine: unmodified pipelines, batched step by step.

Each job runs the unmodified `pipeline(**kwargs)` in a greenlet. The pipeline's modules are proxies
that park the greenlet. The engine runs equal calls of several jobs as one forward and resumes each
job with its rows. Read `engine.Engine.step` first, then `model`, `park`, `rows` and `policy`.
"""
