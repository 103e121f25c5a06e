"""Stock diffusers pipelines, prepared for the engine.

`loading` reads a folder, `model` replaces its modules by proxies, and `view` is one job's view of
it: a pipeline with its own scheduler, arguments and preview. The engine does not know this package;
it sees only the interface in `workers.engine.model`.
"""
