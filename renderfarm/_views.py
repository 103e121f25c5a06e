"""The properties of the handles of both clients, from the farm's last answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from renderfarm import types


class JobView:
    """The properties of a job handle. They show `snapshot`, and make no request."""

    snapshot: types.Job
    """The farm's last answer, whole; `refresh()`, `wait()` and `events()` renew it."""

    @property
    def id(self) -> str:
        """The job's id. Keep it to find the job again."""
        return self.snapshot.id

    @property
    def status(self) -> types.Status:
        """The last known state."""
        return self.snapshot.status

    @property
    def done(self) -> bool:
        """Whether that state is final."""
        return self.snapshot.done

    @property
    def progress(self) -> types.Progress | None:
        """Steps done, of how many; None before the first."""
        return self.snapshot.progress

    @property
    def error(self) -> types.JobError | None:
        """Why the job did not succeed."""
        return self.snapshot.error

    @property
    def created_at(self) -> datetime | None:
        """When the farm accepted the job."""
        return self.snapshot.created_at

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"


class ImageView:
    """The properties of an image handle."""

    info: types.Image

    @property
    def url(self) -> str:
        """A presigned URL for anyone, which expires; `job.refresh()` gives a new one."""
        return self.info.url

    @property
    def width(self) -> int:
        """Pixels."""
        return self.info.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.info.height

    @property
    def content_type(self) -> str:
        """The format of the file, such as image/png."""
        return self.info.content_type

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.info.bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hex; checked at each download."""
        return self.info.sha256

    @property
    def seed(self) -> int:
        """`torch.Generator("cpu").manual_seed(seed)` draws this image again."""
        return self.info.seed

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"<{type(self).__name__} {size} {self.content_type} seed={self.seed}>"
