"""Dispatch: who runs next, which workers are alive, and what happens to jobs whose worker died."""
