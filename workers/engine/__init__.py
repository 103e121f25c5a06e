"""The batching engine: unmodified pipelines, batched at every denoising step (continuous batching).

Every job runs the unmodified `pipeline(**kwargs)` in a greenlet. Its modules are proxies that park
the greenlet. The engine runs equal calls of several jobs as one forward and resumes each job with
its own rows. Read `engine.Engine.step` first, then `model`, `park`, `rows` and `policy`.
"""
