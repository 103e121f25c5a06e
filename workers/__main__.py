"""Run one worker: `python -m workers`.

Settings come from the environment: `app.config.settings`.
"""

from __future__ import annotations

import os
import sys
import warnings

from app import log
from app.broker import create_app, queue_of
from app.catalog.load import load_catalog
from app.config.settings import Settings
from app.errors import FarmError
from workers import tasks
from workers.bootstep import WorkerStep
from workers.device.threads import wait_briefly


def main() -> None:
    """Start a Celery worker whose threads are slots and whose device thread runs the engine."""
    wait_briefly(os.environ)
    log.configure(times=os.environ.get("RENDERFARM_LOG_TIMES") != "0")
    try:
        settings = Settings.from_environment(os.environ)
        catalog = load_catalog(settings.models_file, settings.serve)
    except FarmError as error:
        sys.exit(f"worker: {error}")
    app = create_app(settings.broker_url)
    app.farm_settings, app.farm_catalog = settings, catalog
    tasks.register(app)
    app.steps["worker"].add(WorkerStep)
    warnings.filterwarnings(
        "ignore", message=".*superuser privileges"
    )  # root is usual in a container
    app.worker_main([
        "--quiet",
        "worker",
        "--pool=threads",
        f"--concurrency={settings.slots}",
        "--queues=" + ",".join(queue_of(model) for model in catalog.models),
        f"--hostname=worker-{os.getpid()}@%h",
        "--without-mingle",
        "--without-gossip",
        "--task-events",
        "--loglevel=WARNING",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
