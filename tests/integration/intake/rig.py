"""Intake at work in the test's own process, and the queues that it reads."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from app.config.settings import Settings
from app.database import create_engine
from app.intake.role import finish, open_readers
from renderfarm.queues import open_queue
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from app.jobs.records import Row
    from renderfarm.queues import Queue
    from tests.integration.records import FarmDatabase

MODELS = """
[quick]
pipeline = "null"
[other]
pipeline = "null"
"""
NUMBERS = count()


class IntakeRig:
    """Makes queues, runs intake on them, and looks at what it did."""

    def __init__(self, farm: FarmDatabase, database_url: str, folder: Path) -> None:
        self.farm = farm
        self._folder = folder
        self._tenant = farm.tenant.name
        self._environment = {
            "RENDERFARM_DATABASE_URL": database_url,
            "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",
            "RENDERFARM_DIR": str(folder),
            "RENDERFARM_MODELS": str(folder / "models.toml"),
            "RENDERFARM_SERVE": "quick,other",
            "RENDERFARM_WEBHOOK_ALLOW_PRIVATE": "1",
        }
        self._opened: list[Queue] = []

    @staticmethod
    def memory(**options: float) -> str:
        """The URL of a memory queue nobody has used."""
        return f"memory://intake{next(NUMBERS)}?{urlencode(options)}"

    def queue(self, url: str) -> Queue:
        """The producer's end, or another consumer's; closed at the end of the test."""
        queue = open_queue(url)
        self._opened.append(queue)
        return queue

    def serve(self, model: str) -> None:
        """Serve one model more from now on."""
        file = self._folder / "models.toml"
        file.write_text(f'{file.read_text()}[{model}]\npipeline = "null"\n')
        self._environment["RENDERFARM_SERVE"] += f",{model}"

    def environment(self, *urls: str, **defaults: Any) -> dict[str, str]:
        """The settings of an intake that reads these queues for the farm's tenant."""
        sources = [{"url": url, "tenant": self._tenant, **defaults} for url in urls]
        return self._environment | {"RENDERFARM_SOURCES": json.dumps(sources)}

    @contextmanager
    def reading(self, *urls: str, **defaults: Any) -> Iterator[None]:
        """Intake at work on these queues; it has ended when this has."""
        settings = Settings.from_environment(self.environment(*urls, **defaults))
        engine, stop = create_engine(settings.database_url), threading.Event()
        readers = open_readers(settings, engine, stop, wait_s=0.1)
        threads = [threading.Thread(target=each.serve) for each in readers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            finish(readers, threads)
            for thread in threads:
                thread.join()
            engine.dispose()

    def jobs(self, wanted: int) -> list[Row]:
        """Wait until there are this many jobs. Return all of them."""
        return self._rows("SELECT * FROM jobs ORDER BY created_at", wanted)

    def rejects(self, wanted: int) -> list[Row]:
        """Wait until there are this many rejects. Return all of them."""
        return self._rows("SELECT * FROM rejects ORDER BY id", wanted)

    def _rows(self, query: str, wanted: int) -> list[Row]:
        rows: list[Row] = until(
            lambda: found if len(found := self.farm.rows(query)) >= wanted else None
        ) if wanted else self.farm.rows(query)  # fmt: skip
        return rows

    def close(self) -> None:
        """Close the test's own ends."""
        for queue in self._opened:
            queue.close()


def requests(number: int, **fields: Any) -> list[dict[str, Any]]:
    """Return this many different requests without ids."""
    return [{"prompt": f"{n} red circles", **fields} for n in range(number)]


def ids(jobs: Sequence[Row]) -> set[str]:
    """The jobs' ids as their producers know them."""
    return {str(job["id"]) for job in jobs}
