"""Fixtures of the engine's tests, shared with the tests of the pipelines."""

from tests.unit.workers.engine.conftest import hook_denoiser, models, one_thread, stock

__all__ = ["hook_denoiser", "models", "one_thread", "stock"]
