"""Sign and verify webhooks, by the Standard Webhooks specification 1.0.

See https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. A
secret is `whsec_` and 24 to 64 random bytes in base64. The signature is HMAC-SHA256 over
`id.timestamp.body`. While a secret is being replaced, a delivery carries two signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from renderfarm.errors import WebhookError
from renderfarm.types import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE_S = 300.0
PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A verified delivery: what happened, when, and to which job.

    `id` stays the same when a delivery is repeated: ignore an id that you have handled.
    """

    id: str
    type: str
    """Such as `job.succeeded`."""
    timestamp: datetime
    data: Mapping[str, Any]
    """The job's JSON, unchanged, for events named `job.*`."""

    @property
    def job(self) -> Job:
        """The job in its state at that time. Raises WebhookError for an event of another kind."""
        if not self.type.startswith("job."):
            raise WebhookError(f"{self.type} is not an event of a job")
        return Job.from_json(self.data)


def sign(body: bytes | str, message_id: str, timestamp_s: int, *secrets: str) -> dict[str, str]:
    """Return the three headers of a delivery, with a signature for each secret.

    Raises WebhookError for an invalid secret.
    """
    content = _content(message_id, timestamp_s, _bytes(body))
    signatures = " ".join(f"v1,{_signature(content, secret)}" for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signatures,
    }


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> WebhookEvent:
    """Return the event of a delivery that the holder of `secret` has just signed.

    `body` is the raw body of the request: a parsed and rewritten body has other bytes. `headers`
    may be any mapping, in any case. Raises WebhookError if the signature or the time (Unix seconds,
    `now_s` or the clock) is wrong.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, stamp = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"]
    except KeyError as error:
        raise WebhookError(f"the header {error.args[0]} is missing") from None
    body = _bytes(body)
    timestamp_s = _timestamp(stamp)
    _check_signature(_content(message_id, timestamp_s, body), signatures, secret)
    age_s = (time.time() if now_s is None else now_s) - timestamp_s
    if abs(age_s) > tolerance_s:
        raise WebhookError(
            f"the timestamp is {age_s:+.0f} s off: an old delivery, or a wrong clock"
        )
    return _event(message_id, body)


def _check_signature(content: bytes, signatures: str, secret: str) -> None:
    expected = f"v1,{_signature(content, secret)}".encode()
    given = signatures.encode(errors="replace").split(b" ")  # compare_digest requires ASCII text
    if not any(hmac.compare_digest(expected, each) for each in given):
        raise WebhookError("no signature matches: another secret, or the body was changed")


def _signature(content: bytes, secret: str) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise WebhookError(f"the secret must be {PREFIX} and base64")
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _content(message_id: str, timestamp_s: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp_s}.".encode() + body


def _timestamp(stamp: str) -> int:
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 16):
        raise WebhookError(f"the timestamp must be Unix seconds, not {stamp[:40]!r}")
    return int(stamp)


def _event(message_id: str, body: bytes) -> WebhookEvent:
    try:
        payload = json.loads(body)
        at = datetime.fromisoformat(payload["timestamp"])
        event = WebhookEvent(message_id, payload["type"], at, payload["data"])
        if event.type.startswith("job."):
            event.job  # noqa: B018 - read once here, so that it cannot fail in the caller's hands
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WebhookError(f"the body is not an event ({error!r})") from error
    return event


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body
