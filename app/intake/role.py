"""The intake role: one reader for each source, each in its own thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from app.catalog.load import load_catalog
from app.config.sources import VARIABLE
from app.database import create_engine
from app.errors import CatalogError, SettingsError
from app.intake.database import IntakeDatabase
from app.intake.reader import WAIT_S, Reader
from app.jobs.accept import AcceptContext
from app.jobs.store import Store
from renderfarm.queues import QueueError, open_queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from app.catalog.entries import Catalog
    from app.config.settings import Settings
    from app.config.sources import Source
    from renderfarm.queues import Queue

log = structlog.get_logger("app.intake")
STOP_S = 5.0
"""How long readers may take to end by themselves: one may wait for a database that hangs."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Run until `stop` is set. Wait, and log it, while Postgres or a queue is unavailable."""
    if not settings.sources:
        raise SettingsError(f"{VARIABLE} is not set: it names the queues that intake reads")
    engine = create_engine(settings.database_url, pool_size=len(settings.sources))
    readers = open_readers(settings, engine, stop)
    threads = [threading.Thread(target=each.serve, daemon=True) for each in readers]
    for thread in threads:
        thread.start()
    log.info("intake_started", sources=[source.name for source in settings.sources])
    stop.wait()
    finish(readers, threads)
    log.info("intake_stopped")


def open_readers(
    settings: Settings, engine: Engine, stop: threading.Event, *, wait_s: float = WAIT_S
) -> list[Reader]:
    """Return a reader for each source.

    Raises `SettingsError` naming the source that cannot be opened.
    """
    catalog = load_catalog(settings.models_file, settings.serve)
    contexts = [accept_context_of(settings, engine, catalog, source) for source in settings.sources]
    queues = [_open(source) for source in settings.sources]
    return [
        Reader(source.name, queue, IntakeDatabase(engine, context, source), stop, wait_s=wait_s)
        for source, queue, context in zip(settings.sources, queues, contexts, strict=True)
    ]


def accept_context_of(
    settings: Settings, engine: Engine, catalog: Catalog, source: Source
) -> AcceptContext:
    """Return the accept context of a source, with its defaults.

    Raises `SettingsError` for its model.
    """
    try:
        preferred = catalog.preferring(source.model) if source.model else catalog
    except CatalogError as error:
        raise SettingsError(f"{VARIABLE}: {source.name}: {error}") from error
    return AcceptContext(
        Store(engine),
        preferred,
        settings.webhook_allow_private,
        source.priority,
        settings.keep_uploads_s,
    )


def finish(readers: Sequence[Reader], threads: Sequence[threading.Thread]) -> None:
    """Give the readers `STOP_S` to end; then hand back the messages of those that have not."""
    give_up_at = time.monotonic() + STOP_S
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    for reader, thread in zip(readers, threads, strict=True):
        if thread.is_alive():
            reader.close()


def _open(source: Source) -> Queue:
    try:
        return open_queue(source.url)
    except QueueError as error:
        raise SettingsError(f"{VARIABLE}: {source.name}: {error}") from error
