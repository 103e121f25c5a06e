"""Signing and verifying webhooks."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm import Status, WebhookError
from renderfarm.webhooks import sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret of 24 byte").decode()
NOW_S = 1_700_000_000
BODY = json.dumps(
    {
        "type": "job.succeeded",
        "timestamp": "2026-01-01T00:00:00Z",
        "data": {"id": "0199", "status": "succeeded", "newer": True},
    },
).encode()


def headers(*secrets: str, timestamp_s: int = NOW_S) -> dict[str, str]:
    """Return the headers of a delivery of BODY."""
    return sign(BODY, "msg_1", timestamp_s, *(secrets or (SECRET,)))


def test_the_signature_is_the_published_one() -> None:
    """Our signature equals the test vector of the Standard Webhooks libraries."""
    signed = sign('{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, SECRET)
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_delivery_becomes_its_event() -> None:
    """A verified delivery has its id, type, time and job."""
    event = verify(BODY, headers(), SECRET, now_s=NOW_S)
    assert (event.id, event.type) == ("msg_1", "job.succeeded")
    assert event.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert (event.job.id, event.job.status) == ("0199", Status.SUCCEEDED)


def test_header_names_come_in_any_case() -> None:
    """Header names are accepted in any case, because frameworks differ."""
    shouted = {name.title(): value for name, value in headers().items()}
    assert verify(BODY.decode(), shouted, SECRET, now_s=NOW_S).id == "msg_1"


def test_either_secret_is_good_while_they_change() -> None:
    """A delivery signed with the old and the new secret passes with both, and with no other."""
    both = headers(OTHER, SECRET)
    assert verify(BODY, both, SECRET, now_s=NOW_S)
    assert verify(BODY, both, OTHER, now_s=NOW_S)
    with pytest.raises(WebhookError, match="no signature"):
        verify(BODY, both, "whsec_AAAA", now_s=NOW_S)


@pytest.mark.parametrize("off_s", [-301, 301])
def test_old_and_early_deliveries_are_refused(off_s: int) -> None:
    """A clock may be five minutes off in either direction, unless the caller sets a tolerance."""
    stale = headers(timestamp_s=NOW_S + off_s)
    with pytest.raises(WebhookError, match="timestamp"):
        verify(BODY, stale, SECRET, now_s=NOW_S)
    assert verify(BODY, stale, SECRET, now_s=NOW_S, tolerance_s=301)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_any_changed_byte_is_seen(index: int, flip: int) -> None:
    """A body with one changed byte is refused."""
    changed = bytearray(BODY)
    changed[index] ^= flip
    with pytest.raises(WebhookError, match="no signature"):
        verify(bytes(changed), headers(), SECRET, now_s=NOW_S)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_2"),
        ("webhook-timestamp", str(NOW_S + 1)),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "٣"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,\u00e9 \ud800"),
        ("webhook-signature", headers()["webhook-signature"].replace("v1,", "v2,")),
    ],
)
def test_changed_headers_are_refused(name: str, value: str) -> None:
    """Id and time are signed too, and a malformed header raises WebhookError."""
    with pytest.raises(WebhookError):
        verify(BODY, headers() | {name: value}, SECRET, now_s=NOW_S)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_missing_headers_are_named(name: str) -> None:
    """A delivery that lacks a header is refused, and the error names the header."""
    less = {key: value for key, value in headers().items() if key != name}
    with pytest.raises(WebhookError, match=name):
        verify(BODY, less, SECRET, now_s=NOW_S)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_no base64!", "whsec_é"])
def test_bad_secrets_are_refused(secret: str) -> None:
    """An invalid or empty secret neither signs nor verifies."""
    with pytest.raises(WebhookError, match="secret"):
        sign(BODY, "msg_1", NOW_S, secret)
    with pytest.raises(WebhookError, match="secret"):
        verify(BODY, headers(), secret, now_s=NOW_S)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"\xff", b'{"type": "job.succeeded", "timestamp": "2026-01-01", "data": {}}'],
)
def test_signed_nonsense_is_refused(body: bytes) -> None:
    """A signed body that is not an event raises WebhookError."""
    with pytest.raises(WebhookError, match="not an event"):
        verify(body, sign(body, "msg_1", NOW_S, SECRET), SECRET, now_s=NOW_S)


def test_events_of_newer_kinds_pass() -> None:
    """An event of another kind verifies, but its `job` raises WebhookError."""
    body = b'{"type": "endpoint.disabled", "timestamp": "2026-01-01T00:00:00Z", "data": {"id": 1}}'
    event = verify(body, sign(body, "msg_1", NOW_S, SECRET), SECRET, now_s=NOW_S)
    assert event.data == {"id": 1}
    with pytest.raises(WebhookError, match=r"endpoint\.disabled"):
        _ = event.job


def test_the_official_library_agrees() -> None:
    """The `standardwebhooks` package, if installed, verifies our signatures."""
    official = pytest.importorskip("standardwebhooks")
    now_s = int(datetime.now(UTC).timestamp())
    assert official.Webhook(SECRET).verify(BODY, sign(BODY, "msg_1", now_s, SECRET))
