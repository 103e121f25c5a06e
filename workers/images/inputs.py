"""The pictures that a request starts from: in it, uploaded before, or anywhere on the internet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from app.errors import FarmError, TooLarge
from app.outbound.client import ForbiddenUrl, GuardedBackend, Outbound, OutboundError, Resolver
from app.storage import uploads
from workers.errors import RenderFailed
from workers.images.encode import decode, read

if TYPE_CHECKING:
    from uuid import UUID

    from PIL import Image

    from app.outbound.client import Response
    from app.storage.objects import Storage

LIMIT_S = 30.0
ACCEPT = {"accept": "image/png, image/jpeg, image/webp, image/avif"}


class InputUnavailable(FarmError):
    """Whoever has the picture did not give it now; another try may well succeed."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Fetches what a request's `image`, `mask` and `control_image` name.

    URLs are fetched by the rules of webhooks: https to public addresses only unless
    `allow_private`, no redirects, and bounded in time and size.
    """

    storage: Storage
    allow_private: bool = False
    limit_bytes: int = uploads.LIMIT_UPLOAD_BYTES

    def picture(self, tenant_id: UUID, text: str, field: str, mode: str) -> Image.Image:
        """The picture, in that mode.

        RenderFailed `bad_image` for what is none; `InputUnavailable` or `StorageError` for what
        may be there later.
        """
        if uploads.is_name(text):
            return read(self._uploaded(tenant_id, text, field), field, mode)
        if text.startswith(("http://", "https://")):
            return read(self._fetched(text, field), field, mode)
        return decode(text, field, mode)

    def _uploaded(self, tenant_id: UUID, name: str, field: str) -> bytes:
        try:
            return self.storage.get(uploads.key_of(tenant_id, name), self.limit_bytes)
        except FileNotFoundError:
            raise RenderFailed("bad_image", f"{field}: nothing was put to {name}") from None
        except TooLarge as error:
            raise RenderFailed("bad_image", f"{field}: {error}") from error

    def _fetched(self, url: str, field: str) -> bytes:
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
            raise RenderFailed("bad_image", f"{field}: more than {self.limit_bytes} bytes")
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
