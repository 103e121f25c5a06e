"""Envelope: the message of a request."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from renderfarm.queues import envelope


def test_an_id_is_made() -> None:
    """A request without an id gets a UUIDv7, which is in the body and is returned."""
    job_id, body = envelope.pack({"prompt": "a red circle"})
    assert UUID(job_id).version == 7
    assert json.loads(body) == {"prompt": "a red circle", "id": job_id}


def test_an_id_is_kept() -> None:
    """A producer's own id is used, in its canonical form."""
    own = "018F0000-0000-7000-8000-00000000000A"
    job_id, body = envelope.pack({"prompt": "x", "id": own})
    assert job_id == json.loads(body)["id"] == own.lower()


def test_the_request_is_left_alone() -> None:
    """Packing does not change the caller's dictionary."""
    request = {"prompt": "x"}
    envelope.pack(request)
    assert request == {"prompt": "x"}


def test_text_is_utf8() -> None:
    """Characters are sent as UTF-8, not as escapes, so a prompt needs only its own bytes."""
    _, body = envelope.pack({"prompt": "Ein Bär 🐻"})
    assert "Ein Bär 🐻".encode() in body


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    """The producer refuses NaN and infinities, which no JSON parser accepts."""
    with pytest.raises(ValueError, match="JSON"):
        envelope.pack({"prompt": "x", "guidance_scale": value})


def test_a_bad_id_is_refused() -> None:
    """The producer refuses an id that is not a UUID."""
    with pytest.raises(ValueError, match="UUID"):
        envelope.pack({"prompt": "x", "id": "mine"})


def test_ids_sort_by_time() -> None:
    """A later id is larger, so newest first is also largest first."""
    assert envelope.new_id(now_ms=1) < envelope.new_id(now_ms=2)
