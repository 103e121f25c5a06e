"""Celery, the carrier of hints. Postgres holds the jobs: a lost or repeated hint costs nothing.

The settings survived tests with kill -9, half-open connections and a missing broker: early
acknowledgement, no publish retries, socket timeouts, and no prefetch. Without prefetch a hint waits
in Redis, where every worker can take it, and not in one worker's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kombu
import redis
import redis.asyncio
from celery import Celery
from celery.app.amqp import AMQP
from kombu.transport.redis import Transport as RedisTransport

from app.jobs.records import attempt_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

TASK = "render"
_SOCKETS: dict[str, Any] = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "retry_on_timeout": False,
}


class Channel(RedisTransport.Channel):  # type: ignore[misc,unused-ignore]
    """A channel that hands nothing back when it is closed; the dispatcher hints those jobs again.

    Handing back needs a broker that answers, and ends the whole worker if there is none.
    """

    do_restore = False


class Transport(RedisTransport):  # type: ignore[misc,unused-ignore]
    """The Redis transport with such channels."""

    Channel = Channel


class Connection(kombu.Connection):  # type: ignore[misc,unused-ignore]
    """A connection that is tried again soon; kombu's own backoff grows to half a minute."""

    def get_transport_cls(self) -> type[Transport]:
        """Redis is the only broker of hints."""
        return Transport

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        pauses = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}
        return super()._ensure_connection(*args, **(pauses | options))


class Carrier(AMQP):  # type: ignore[misc,unused-ignore]
    """Celery's AMQP layer on such connections."""

    Connection = Connection


def queue_of(model: str) -> str:
    """Return the Celery queue that carries the hints of a model."""
    return f"render.{model}"


def create_app(broker_url: str) -> Celery:
    """Return a Celery application on this broker. It connects at first use."""
    app = Celery("renderfarm", broker=broker_url, amqp=Carrier)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_create_missing_queues=True,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_SOCKETS,
        broker_heartbeat=0,
    )
    return app


def publish(app: Celery, job_id: UUID, attempt: int, request: Mapping[str, Any]) -> None:
    """Publish a hint. Raises kombu's `OperationalError` if the broker is unavailable."""
    app.send_task(
        TASK,
        args=[str(job_id)],
        task_id=attempt_name(job_id, attempt + 1),
        queue=queue_of(request["model"]),
        argsrepr=summary(request),
        kwargsrepr="",
        retry=False,
    )


def summary(request: Mapping[str, Any]) -> str:
    """Describe a job in one line, for Flower: model, size, steps, start of the prompt."""
    prompt = request["prompt"]
    short = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    count = f" x{request['num_images']}" if request["num_images"] > 1 else ""
    return (
        f"{request['model']} {request['width']}x{request['height']}{count} "
        f"{request['num_inference_steps']} steps: {short}"
    )


def waiting_hints(client: redis.Redis, models: Sequence[str]) -> dict[str, int]:
    """Return how many hints of each model are in the broker and not yet received by a worker."""
    pipe = client.pipeline(transaction=False)
    for model in models:
        pipe.llen(queue_of(model))
    return dict(zip(models, pipe.execute(), strict=True))


def connect(broker_url: str) -> redis.Redis:
    """Return a plain Redis client of the broker, for counting. It connects at first use."""
    return redis.Redis.from_url(broker_url, **_SOCKETS)


def connect_async(broker_url: str) -> redis.asyncio.Redis:
    """Return the same client for an event loop."""
    return redis.asyncio.Redis.from_url(broker_url, **_SOCKETS)


def preview_channel(job_id: UUID | str) -> str:
    """Return the channel on which a job's previews are published, as data URLs."""
    return f"preview:{job_id}"
