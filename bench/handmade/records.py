"""The one table of the hand-made app, and the settings of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Mapping

READY = "ready for tasks"  # what a worker prints once it takes tasks
TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id          uuid PRIMARY KEY,
    status      text NOT NULL DEFAULT 'queued',
    model       text NOT NULL,
    prompt      text NOT NULL,
    steps       integer NOT NULL,
    size        integer NOT NULL,
    seed        bigint NOT NULL,
    guidance    double precision NOT NULL,
    error       text,
    render_s    double precision,
    store_s     double precision,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz
)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The app's database, broker, files and model."""

    database_url: str
    broker_url: str
    files: Path
    model: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Place:
        """Read the four variables; a missing one is a KeyError that names it."""
        return cls(
            environ["HANDMADE_DATABASE_URL"],
            environ["HANDMADE_BROKER_URL"],
            Path(environ["HANDMADE_FILES"]),
            Path(environ["HANDMADE_MODEL"]),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads."""
        return {
            "HANDMADE_DATABASE_URL": self.database_url,
            "HANDMADE_BROKER_URL": self.broker_url,
            "HANDMADE_FILES": str(self.files),
            "HANDMADE_MODEL": str(self.model),
        }


def celery_app(broker_url: str) -> Celery:
    """Set Celery up like its tutorial: acks_late, other settings at their defaults, no results."""
    app = Celery("handmade", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
    )
    return app
