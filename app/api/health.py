"""`/healthz` (liveness), `/readyz` (readiness), `/metrics` (Prometheus), and `GET /v1/models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.api.context import Ctx, Who
from app.dispatch import workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fastapi import FastAPI, Request
    from sqlalchemy import RowMapping

router = APIRouter()
REQUESTS = Counter(
    "renderfarm_http_requests_total", "HTTP requests.", ["method", "route", "status"]
)
LATENCY = Histogram("renderfarm_http_seconds", "Seconds to answer.", ["method", "route"])


@router.get("/healthz", tags=["health"])
def healthz() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@router.get("/readyz", tags=["health"])
def readyz(context: Ctx) -> dict[str, Any]:
    """The process can accept jobs: the database answers. 503 if it does not."""
    with context.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {"status": "ready", "workers": workers.alive(context.engine)}


@router.get("/metrics", tags=["health"])
def metrics(context: Ctx) -> Response:
    """Return metrics in Prometheus' text format.

    Only this process's while Postgres is unavailable.
    """
    try:
        farm = generate_latest(
            farm_metrics(context.queries.counts(), workers.living(context.engine))
        )
    except SQLAlchemyError:
        farm = b""
    return Response(farm + generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models", tags=["models"])
def models(context: Ctx, _: Who) -> dict[str, Any]:
    """List the models that the farm serves, with defaults and limits.

    `batching` is what living workers found when they loaded the model: `step` if its jobs share
    forward passes, `none` if they run one at a time, null while no worker serves it.
    """
    found: dict[str, str] = {}
    for worker in workers.living(context.engine):
        found |= worker["stats"].get("batching", {})
    return {
        "models": [
            model.public() | {"batching": found.get(model.name)}
            for model in context.catalog.models.values()
        ]
    }


def farm_metrics(
    counts: Mapping[tuple[str, str], int], living: Sequence[RowMapping]
) -> CollectorRegistry:
    """Return the farm's own metrics, from jobs by (model, status) and the living workers."""
    registry = CollectorRegistry()
    jobs = Gauge(
        "renderfarm_jobs", "Jobs that wait or run.", ["model", "status"], registry=registry
    )
    for (model, status), count in counts.items():
        jobs.labels(model, status).set(count)
    Gauge("renderfarm_workers", "Workers alive.", registry=registry).set(len(living))
    for what, about in (
        ("rows", "Rows of the engine's forward passes so far, by role."),
        ("forwards", "The engine's forward passes so far, by role."),
    ):
        counted = Gauge(f"renderfarm_engine_{what}", about, ["role"], registry=registry)
        for worker in living:
            for role, count in worker["stats"].get(what, {}).items():
                counted.labels(role).inc(count)
    slots = Gauge("renderfarm_slots", "Slots of living workers.", registry=registry)
    slots.set(sum(worker["slots"] for worker in living))
    return registry


def count_requests(app: FastAPI) -> None:
    """Count and time every request by its route's pattern, never by ids."""

    @app.middleware("http")
    async def count(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        with LATENCY.labels(request.method, "all").time():
            response = await call_next(request)
        route = getattr(request.scope.get("route"), "path", "none")
        REQUESTS.labels(request.method, route, response.status_code).inc()
        return response
