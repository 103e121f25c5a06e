"""Serialization: the public JSON of a job, made from its rows in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from app.jobs.records import Row


def images_of(connection: Connection, job_id: UUID) -> list[Row]:
    """The image rows of a job, in order."""
    query = text("SELECT * FROM images WHERE job_id = :id ORDER BY n")
    return [dict(row) for row in connection.execute(query, {"id": job_id}).mappings()]


def job(
    row: Mapping[str, Any],
    images: Sequence[Mapping[str, Any]],
    url_for: Callable[[str], str] | None,
    position: int | None = None,
) -> dict[str, Any]:
    """The public JSON of a job. `url_for` gives an object key's signed URL.

    Without `url_for`, each image has its object `key` in place of a `url`. `position` is the number
    of jobs ahead in the queue.
    """
    request = dict(row["request"])
    return {
        "id": str(row["id"]),
        "status": row["status"],
        "request": request,
        "progress": {"step": row["step"], "steps": row["steps"]},
        "position": position,
        "images": [_image(image, url_for) for image in images],
        "error": row["error"] if row["status"] == "failed" else None,
        "attempt": row["attempt"],
        "created_at": _time(row["created_at"]),
        "started_at": _time(row["started_at"]),
        "finished_at": _time(row["finished_at"]),
        "expires_at": _time(row["deadline_at"]),
        "timings": {
            "queued_s": _seconds(row["created_at"], row["started_at"]),
            "render_s": row["render_s"],
            "store_s": row["store_s"],
        },
        "gpu_seconds": row["gpu_seconds"],
        "cost_usd": row["cost_usd"],
        "cached": row["cached"],
        "metadata": request.get("metadata", {}),
    }


def with_urls(payload: dict[str, Any], url_for: Callable[[str], str]) -> dict[str, Any]:
    """A webhook's payload with each image's `key` replaced by a fresh URL."""
    data = payload["data"]
    if "images" not in data:  # an event of an endpoint, not of a job
        return payload
    images = [
        {"url": url_for(image["key"]), **{k: v for k, v in image.items() if k != "key"}}
        for image in data["images"]
    ]
    return {**payload, "data": {**data, "images": images}}


def _image(image: Mapping[str, Any], url_for: Callable[[str], str] | None) -> dict[str, Any]:
    location = {"url": url_for(image["key"])} if url_for else {"key": image["key"]}
    names = ("width", "height", "content_type", "bytes", "sha256", "seed")
    return location | {name: image[name] for name in names}


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 6) if end else None
