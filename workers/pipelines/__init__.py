"""Stock diffusers pipelines, made ready for the engine.

`loading` reads a folder, `model` puts proxies in the place of its modules, and `view` is one job's own
look at it: a pipeline with a scheduler, arguments and a preview of its own. The engine knows nothing of
this package; it sees what `workers.engine.model` asks for.
"""
