"""Input pictures: in the request, uploaded before, or downloaded (guarded against SSRF)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from app.errors import TooLarge
from app.outbound.client import ForbiddenUrl, GuardedBackend, Outbound, OutboundError, Resolver
from app.storage import uploads
from workers.errors import InputUnavailable, RenderFailed
from workers.images.encode import decode, read

if TYPE_CHECKING:
    from uuid import UUID

    from PIL import Image

    from app.outbound.client import Response
    from app.storage.objects import Storage

LIMIT_S = 30.0
ACCEPT = {"accept": "image/png, image/jpeg, image/webp, image/avif"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """Loads the pictures that a request's `image`, `mask` and `control_image` name.

    Downloads follow the rules of webhooks: only https to public addresses (unless `allow_private`),
    no redirects, and limits on time (`LIMIT_S`) and size (`limit_bytes`).
    """

    storage: Storage
    allow_private: bool = False
    limit_bytes: int = uploads.LIMIT_UPLOAD_BYTES

    def picture(self, tenant_id: UUID, text: str, field: str, mode: str) -> Image.Image:
        """Return the picture in Pillow's `mode`; `field` names it in errors.

        Raises RenderFailed `bad_image` if there is no usable picture, and `InputUnavailable` or
        `StorageError` if a later attempt may succeed.
        """
        if uploads.is_name(text):
            return read(self._load_upload(tenant_id, text, field), field, mode)
        if text.startswith(("http://", "https://")):
            return read(self._download(text, field), field, mode)
        return decode(text, field, mode)

    def _load_upload(self, tenant_id: UUID, name: str, field: str) -> bytes:
        try:
            return self.storage.get(uploads.key_of(tenant_id, name), self.limit_bytes)
        except FileNotFoundError:
            raise RenderFailed("bad_image", f"{field}: nothing was uploaded to {name}") from None
        except TooLarge as error:
            raise RenderFailed("bad_image", f"{field}: {error}") from error

    def _download(self, url: str, field: str) -> bytes:
        try:
            response = asyncio.run(self._get(url))
        except ForbiddenUrl as error:
            raise RenderFailed("bad_image", f"{field}: the URL {error}") from error
        except OutboundError as error:
            raise InputUnavailable(f"{field}: {error}") from error
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status == 429:
            raise InputUnavailable(f"{field}: the URL answered {response.status}")
        if response.status != HTTPStatus.OK:
            raise RenderFailed("bad_image", f"{field}: the URL answered {response.status}")
        if len(response.body) > self.limit_bytes:
            raise RenderFailed("bad_image", f"{field}: larger than {self.limit_bytes} bytes")
        return response.body

    async def _get(self, url: str) -> Response:
        resolver = Resolver(threads=1)
        network = GuardedBackend(resolver, allow_private=self.allow_private)
        try:
            async with Outbound(
                network, limit_s=LIMIT_S, limit_bytes=self.limit_bytes + 1
            ) as outbound:
                return await outbound.get(url, ACCEPT)
        finally:
            resolver.close()
