"""The API's composition root: one function builds the application, one runs it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from app.api import (
    console,
    deliveries,
    endpoints,
    events,
    files,
    health,
    jobs,
    problems,
    uploads,
    usage,
)
from app.api.admission import AdmissionControl
from app.api.context import Context
from app.api.hub import Hub
from app.api.previews import Previews
from app.catalog.load import load_catalog
from app.database import create_engine
from app.errors import FieldError, InvalidRequest
from app.jobs.accept import AcceptContext
from app.jobs.queries import Queries
from app.jobs.store import Store
from app.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request

    from app.config.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Build the API from these settings. It connects to nothing until it starts."""
    context = compose(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        listening = [asyncio.create_task(part.run()) for part in (context.hub, context.previews)]
        yield
        for task in listening:
            task.cancel()
        await run_in_threadpool(context.engine.dispose)

    app = FastAPI(title="Renderfarm", version="1", lifespan=lifespan)
    app.state.context = context
    app.state.admission = AdmissionControl()
    health.count_requests(app)
    problems.install(app)
    app.add_exception_handler(RequestValidationError, _bad_query)
    for part in (jobs, events, uploads, endpoints, deliveries, usage, health, console):
        app.include_router(part.router)
    if settings.storage_url.startswith("file:"):
        app.include_router(files.router)
    return app


def compose(settings: Settings) -> Context:
    """Build everything that the routes work with."""
    engine = create_engine(settings.database_url)
    store, queries = Store(engine), Queries(engine)
    catalog = load_catalog(settings.models_file, settings.serve)
    return Context(
        settings=settings,
        engine=engine,
        store=store,
        queries=queries,
        catalog=catalog,
        door=AcceptContext(
            store,
            catalog,
            settings.webhook_allow_private,
            keep_uploads_s=settings.keep_uploads_s,
        ),
        storage=ObjectStorage(settings),
        hub=Hub(settings.database_url),
        previews=Previews(settings.broker_url),
    )


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,  # longer than clients keep one, so that the client closes it
    )


async def _bad_query(request: Request, error: Exception) -> problems.ProblemResponse:
    """Answer FastAPI's own error about a query parameter in the API's form."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  (what it was installed for)
    fields = tuple(
        FieldError(str(detail["loc"][-1]), str(detail["msg"])) for detail in error.errors()
    )
    summary = "; ".join(f"{field.field}: {field.message}" for field in fields)
    return await problems.refused(request, InvalidRequest(summary, fields))
