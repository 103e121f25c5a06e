"""Stock diffusers pipelines, adapted to the engine.

`loading` reads a folder, `model` replaces the pipeline's modules by proxies, and `view` is one
job's own pipeline, with its own scheduler, arguments and preview. The engine does not know this
package; it knows the interface in `workers.engine.model`.
"""
