"""A dispatcher in the test's own process, and the environment of the farm's other processes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.config.settings import Settings
from app.dispatch import dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def environment(
    folder: Path, models: str, database_url: str, broker_url: str, **settings: str
) -> dict[str, str]:
    """Return the environment of a farm in `folder` that serves `models`, a `models.toml` as text.

    `settings` adds variables, named without their prefix.
    """
    (folder / "models.toml").write_text(models)
    variables = {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "DIR": str(folder),
        "MODELS": str(folder / "models.toml"),
        **settings,
    }
    return {f"RENDERFARM_{name}": value for name, value in variables.items()}


@contextmanager
def dispatching(variables: Mapping[str, str]) -> Iterator[None]:
    """Run a dispatcher with these variables while the block runs."""
    stop = threading.Event()
    settings = Settings.from_environment(variables)
    loop = threading.Thread(target=dispatcher.run, args=(settings, stop))
    loop.start()
    try:
        yield
    finally:
        stop.set()
        loop.join()
