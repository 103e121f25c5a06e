"""A Celery worker with the farm's settings whose task renders nothing, for the tests of Flower."""

from __future__ import annotations

import os
from uuid import UUID

from app.broker import TASK, create_app, queue_of

if __name__ == "__main__":
    app = create_app(os.environ["RENDERFARM_BROKER_URL"])

    @app.task(name=TASK)  # type: ignore[untyped-decorator, unused-ignore]
    def render(job_id: str) -> str:
        """Return a worker's answer for a job that succeeded; the nil job fails."""
        if UUID(job_id).int == 0:
            raise RuntimeError("out of memory")
        return "succeeded 1 image 0.42 s"

    app.worker_main(["worker", "--pool=threads", "--concurrency=1", "-Q", queue_of("scenes")])
