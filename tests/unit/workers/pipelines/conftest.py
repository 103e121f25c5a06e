"""The engine's fixtures: its tiny pipelines, built once more."""

from tests.unit.workers.engine.conftest import hook_denoiser, models, one_thread, stock

__all__ = ["hook_denoiser", "models", "one_thread", "stock"]
