"""The Celery task: a hint that a job may be waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.broker import TASK
from workers.errors import RenderFailed

if TYPE_CHECKING:
    from celery import Celery


def register(app: Celery) -> None:
    """Register the task with the application."""

    @app.task(bind=True, name=TASK, throws=(RenderFailed,))
    def render(task: Any, job_id: str) -> str:
        """Render the job if it is still waiting. Return its outcome as one line for Flower."""
        result: str = task.app.farm_slot.render(UUID(job_id))
        return result
