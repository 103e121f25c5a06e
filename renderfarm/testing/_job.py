"""One job of the fake farm: it advances one stage each time it is read."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from renderfarm.testing._picture import png
from renderfarm.types import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime


class FakeJob:
    """A job that advances when told to: queued, running at each quarter of its steps, final."""

    def __init__(
        self,
        job_id: str,
        request: dict[str, Any],
        error: dict[str, str] | None,
        now: Callable[[], datetime],
    ) -> None:
        self.id = job_id
        self.request = request
        self.status = Status.QUEUED
        self.step = 0
        self.attempt = 0
        self._planned_error = error
        self._error: dict[str, str] | None = None
        self._now = now
        self._times: dict[str, str] = {"created_at": now().isoformat()}

    @property
    def steps(self) -> int:
        """Denoising steps in all."""
        return int(self.request["num_inference_steps"])

    def advance(self) -> None:
        """Advance one stage; a final job does not change."""
        if self.status is Status.QUEUED:
            self.status, self.attempt = Status.RUNNING, 1
            self._times["started_at"] = self._now().isoformat()
        elif self.status is Status.RUNNING and self.step < self.steps:
            self.step = min(self.steps, self.step + max(1, self.steps // 4))
        elif self.status is Status.RUNNING:
            self._error = self._planned_error
            self.end(Status.FAILED if self._planned_error else Status.SUCCEEDED)

    def finish(self) -> None:
        """Advance to the end."""
        while not self.status.final:
            self.advance()

    def end(self, status: Status) -> None:
        """Make it final, in this state."""
        self.status = status
        self._times["finished_at"] = self._now().isoformat()

    def picture(self, index: int) -> bytes:
        """Return the file of image `index`."""
        request = self.request
        return png(request["width"], request["height"], request["prompt"], request["seed"] + index)

    def _preview(self) -> str:
        """Return a small picture as a data URL."""
        data = png(self.request["width"] // 8, self.request["height"] // 8, "preview", self.step)
        return "data:image/png;base64," + base64.b64encode(data).decode()

    def events(self, base_url: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Advance to the end, and yield each change."""
        yield "state", self.json(base_url)
        while not self.status.final:
            before = self.status
            self.advance()
            if self.status is before:
                progress = {"step": self.step, "steps": self.steps, "preview": self._preview()}
                yield "progress", progress
            else:
                yield "state", self.json(base_url)

    def json(self, base_url: str) -> dict[str, Any]:
        """Return the job in the form of the HTTP contract."""
        return {
            "id": self.id,
            "status": self.status.value,
            "request": self.request,
            "progress": {"step": self.step, "steps": self.steps},
            "position": 0 if self.status is Status.QUEUED else None,
            "images": self._images(base_url),
            "error": self._error,
            "attempt": self.attempt,
            **{name: self._times.get(name) for name in ("created_at", "started_at", "finished_at")},
            "expires_at": None,
            "timings": {"queued_s": 0.0, "render_s": 0.0, "store_s": 0.0},
            "gpu_seconds": 0.0,
            "cost_usd": 0.0,
            "cached": False,
            "metadata": self.request["metadata"],
        }

    def _images(self, base_url: str) -> list[dict[str, Any]]:
        if self.status is not Status.SUCCEEDED:
            return []
        return [self._image(base_url, index) for index in range(self.request["num_images"])]

    def _image(self, base_url: str, index: int) -> dict[str, Any]:
        data = self.picture(index)
        return {
            "url": f"{base_url}/files/{self.id}/{index}.png?expires=2000000000&signature=fake",
            "width": self.request["width"],
            "height": self.request["height"],
            "content_type": "image/png",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "seed": self.request["seed"] + index,
        }
