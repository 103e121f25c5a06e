"""The hand-made worker: `python -m bench.handmade.worker QUEUE THREADS`.

On the queue `scenes` it draws with the stock pipeline; on `null` it returns a fixed picture.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from celery.signals import worker_ready
from PIL import Image
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from bench.handmade.records import READY, Place, celery_app

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import Connection

    Draw = Callable[[Mapping[str, Any]], Image.Image]

_START = "UPDATE jobs SET status = 'running', started_at = now() WHERE id = %s RETURNING *"
_END = """UPDATE jobs SET status = 'succeeded', finished_at = now(), render_s = %s, store_s = %s
          WHERE id = %s"""
_FAIL = "UPDATE jobs SET status = 'failed', finished_at = now(), error = %s WHERE id = %s"


def fixed_picture(row: Mapping[str, Any]) -> Image.Image:
    """Return a grey picture of the requested size."""
    return Image.new("RGB", (row["size"], row["size"]), (128, 128, 128))


def load_pipeline(place: Place) -> Draw:
    """Load the stock pipeline on this device, like its documentation shows."""
    import torch  # noqa: PLC0415 - the null worker does without
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline  # noqa: PLC0415

    pipeline = StableDiffusionPipeline.from_pretrained(
        place.model, dtype=torch.float32, safety_checker=None, local_files_only=True
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def draw(row: Mapping[str, Any]) -> Image.Image:
        picture: Image.Image = pipeline(
            row["prompt"],
            width=row["size"],
            height=row["size"],
            num_inference_steps=row["steps"],
            guidance_scale=row["guidance"],
            generator=torch.Generator("cpu").manual_seed(row["seed"]),
        ).images[0]
        return picture

    return draw


def main(queue: str, threads: str) -> None:
    """Load the model, then take tasks until told to stop."""
    place = Place.from_environment(os.environ)
    pool: ConnectionPool[Connection[DictRow]] = ConnectionPool(
        place.database_url, kwargs={"row_factory": dict_row}, max_size=16, open=True
    )
    draw = load_pipeline(place) if queue == "scenes" else fixed_picture
    app = celery_app(place.broker_url)

    def work(job_id: str) -> None:
        with pool.connection() as connection:
            row = connection.execute(_START, [job_id]).fetchone()
        if row is None:
            return
        began = time.monotonic()
        picture = draw(row)
        drawn = time.monotonic()
        picture.save(place.files / f"{job_id}.png")
        values = (drawn - began, time.monotonic() - drawn, job_id)
        with pool.connection() as connection:
            connection.execute(_END, values)

    @app.task(name="render")  # type: ignore[untyped-decorator, unused-ignore]
    def render(job_id: str) -> None:
        try:
            work(job_id)
        except Exception as error:
            with pool.connection() as connection:
                connection.execute(_FAIL, [repr(error), job_id])
            raise

    @worker_ready.connect  # type: ignore[untyped-decorator, unused-ignore]
    def say(**_: Any) -> None:
        print(READY, flush=True)

    app.worker_main([
        "worker", "--pool=threads", f"--concurrency={threads}", f"--queues={queue}",
        f"--hostname={queue}@%h", "--loglevel=WARNING",
    ])  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
