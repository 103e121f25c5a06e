"""The hand-made API: `POST /jobs`, `GET /jobs/{id}`, `GET /images/{id}.png`."""

from __future__ import annotations

import os
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from pydantic import BaseModel, Field

from bench.handmade.records import TABLE, Place, celery_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "handmade"
_INSERT = """INSERT INTO jobs (id, model, prompt, steps, size, seed, guidance)
             VALUES (%(id)s, %(model)s, %(prompt)s, %(steps)s, %(size)s, %(seed)s, %(guidance)s)"""


class NewJob(BaseModel):
    """What a client asks for."""

    model: str
    prompt: str = Field(min_length=1, max_length=500)
    steps: int = Field(default=20, ge=1, le=100)
    size: int = Field(default=128, ge=64, le=512)
    seed: int = 0
    guidance: float = 4.0


def checked(request: Request) -> None:
    """Check the key."""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise HTTPException(401)


def create_api(place: Place) -> FastAPI:
    """Build the API; it connects when it starts."""
    options = {"row_factory": dict_row}
    pool = ConnectionPool(place.database_url, kwargs=options, min_size=4, max_size=16, open=False)
    celery = celery_app(place.broker_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with pool:
            with pool.connection() as connection:
                connection.execute(TABLE)
            yield

    api = FastAPI(lifespan=lifespan)

    @api.post("/jobs", status_code=202, dependencies=[Depends(checked)])
    def submit(job: NewJob) -> dict[str, str]:
        job_id = str(uuid.uuid4())
        with pool.connection() as connection:
            connection.execute(_INSERT, {"id": job_id, **job.model_dump()})
        celery.send_task("render", args=[job_id], queue=job.model)
        return {"id": job_id, "status": "queued"}

    @api.get("/jobs/{job_id}", dependencies=[Depends(checked)])
    def show(job_id: uuid.UUID) -> dict[str, Any]:
        with pool.connection() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = %s", [job_id]).fetchone()
        if row is None:
            raise HTTPException(404)
        return dict(row)

    @api.get("/images/{job_id}.png")
    def image(job_id: uuid.UUID) -> FileResponse:
        return FileResponse(place.files / f"{job_id}.png")

    @api.get("/healthz")
    def healthz() -> dict[str, bool]:
        return {"ok": True}

    return api


if __name__ == "__main__":
    uvicorn.run(
        create_api(Place.from_environment(os.environ)),
        host="127.0.0.1",
        port=int(os.environ["HANDMADE_PORT"]),
        log_level="warning",
        access_log=False,
    )
