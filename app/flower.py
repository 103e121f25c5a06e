"""Flower, the monitor of the workers: every render with its job id, model, size and outcome.

It is read-only. The farm cancels and drains jobs itself. Celery's own controls would harm a worker
whose jobs share one device.

Flower serves `/metrics` and `/healthcheck` without a password to every client that reaches its
port: keep the port on the loopback address or a private network.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from app.broker import create_app
from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.config.settings import Settings

COLUMNS = "uuid,args,state,result,runtime,received,worker"
FORGET_WORKER_S = 60
TASKS_IN_MEMORY = 10_000


def main(settings: Settings) -> None:
    """Run Flower until SIGTERM or SIGINT. Refuses to start without a password."""
    credentials = [credential(settings)]
    # A worker that is busy or not yet started does not answer Flower's requests; that is no event.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    from flower import options  # noqa: PLC0415 - it defines the options of a global parser

    chosen = options.default_options
    chosen.basic_auth = credentials  # not on the command line, where every user could read it
    chosen.format_task = readable
    create_app(settings.broker_url).start(argv=arguments(settings))


def arguments(settings: Settings) -> Sequence[str]:
    """Return the arguments of Celery's command line."""
    return (
        "--quiet",
        "flower",
        f"--address={settings.host}",
        f"--port={settings.flower_port}",
        f"--tasks_columns={COLUMNS}",
        f"--purge_offline_workers={FORGET_WORKER_S}",
        f"--max_tasks={TASKS_IN_MEMORY}",
        "--read_only=true",
        "--persistent=false",
    )


def credential(settings: Settings) -> str:
    """Return `user:password` as the browser sends it."""
    if not settings.flower_password:
        raise SettingsError("RENDERFARM_FLOWER_PASSWORD is not set: Flower would be open to all")
    return f"{settings.flower_user}:{settings.flower_password}"


def readable(task: Any) -> Any:
    """Format a task for the list: one column shows its result or its error.

    Celery sends the repr of a result (a quoted text), and an error separately.
    """
    if isinstance(task.result, str):
        task.result = task.result.strip("'\"")
    elif task.exception:
        task.result = task.exception
    return task
