"""One try: the signed request of a delivery, and the endpoint's answer.

Headers and signature have the form of Standard Webhooks (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from app import trace
from app.jobs.present import with_urls
from app.outbound.client import Outbound, OutboundError
from app.outbound.urls import ForbiddenUrl
from app.webhooks.schedule import Answer, Answered, Unanswered, Unsendable, retry_after_s
from renderfarm.webhooks import sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.webhooks.deliveries import Delivery

log = structlog.get_logger("app.webhooks")


async def post(
    outbound: Outbound, delivery: Delivery, url_for: Callable[[str, int | None], str]
) -> Answer:
    """Post a delivery once. Every failure is an answer, too."""
    now = datetime.now(UTC)
    if delivery.stopped is not None:
        return Unsendable(f"the endpoint was {delivery.stopped}")
    try:
        # In a thread, because some stores need a request to sign.
        headers, body = await asyncio.to_thread(compose, delivery, url_for, now)
        response = await outbound.post(delivery.url, headers, body)
    except ForbiddenUrl as error:
        return Unsendable(f"the URL {error}")
    except OutboundError as error:
        return Unanswered(str(error))
    except Exception as error:
        # One row that cannot be sent must not stop all others: it fails like any other try.
        log.exception("delivery_unsendable", delivery=str(delivery.id))
        return Unanswered(
            f"the farm could not send this webhook ({type(error).__name__})", ours=True
        )
    asked_s = retry_after_s(response.headers.get("retry-after"), now)
    return Answered(response.status, asked_s, _readable(response.body))


def compose(
    delivery: Delivery, url_for: Callable[[str, int | None], str], now: datetime
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a try at `now`.

    The images' URLs are signed now, because they expire.

    The body is serialized once and signed in exactly that form.
    """
    payload = with_urls(delivery.payload, lambda key: url_for(key, delivery.url_expiry_s))
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    signed = sign(body, str(delivery.id), int(now.timestamp()), *delivery.secrets)
    traced = {trace.NAME: delivery.trace} if delivery.trace else {}
    return {"content-type": "application/json", **signed, **traced}, body


def _readable(body: bytes) -> str:
    """Return an answer's text without the characters that Postgres or a terminal cannot take."""
    return "".join(c if c.isprintable() else " " for c in body.decode(errors="replace")).strip()
