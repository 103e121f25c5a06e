"""A Celery worker with the farm's settings whose only task renders nothing, for Flower's tests."""

from __future__ import annotations

import os
from uuid import UUID

from app.broker import TASK, create_app, queue_of

if __name__ == "__main__":
    app = create_app(os.environ["RENDERFARM_BROKER_URL"])

    @app.task(name=TASK)
    def render(job_id: str) -> str:
        """Answer what a worker answers for a job that went well; the nil job goes wrong."""
        if UUID(job_id).int == 0:
            raise RuntimeError("out of memory")
        return "succeeded 1 image 0.42 s"

    app.worker_main(["worker", "--pool=threads", "--concurrency=1", "-Q", queue_of("scenes")])
