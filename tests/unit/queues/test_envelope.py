"""A request on its way."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from renderfarm.queues import envelope


def test_an_id_is_made() -> None:
    """A request without an id is given a UUIDv7, inside the body and as the answer."""
    job_id, body = envelope.pack({"prompt": "a red circle"})
    assert UUID(job_id).version == 7
    assert json.loads(body) == {"prompt": "a red circle", "id": job_id}


def test_an_id_is_kept() -> None:
    """A producer's own id is used, in the one canonical spelling."""
    own = "018F0000-0000-7000-8000-00000000000A"
    job_id, body = envelope.pack({"prompt": "x", "id": own})
    assert job_id == json.loads(body)["id"] == own.lower()


def test_the_request_is_left_alone() -> None:
    """Packing writes nothing into the caller's dictionary."""
    request = {"prompt": "x"}
    envelope.pack(request)
    assert request == {"prompt": "x"}


def test_text_is_utf8() -> None:
    """Characters travel as UTF-8, not as escapes: a prompt costs its own bytes."""
    _, body = envelope.pack({"prompt": "Ein Bär 🐻"})
    assert "Ein Bär 🐻".encode() in body


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    """NaN and infinities stop at the producer: no parser would take them."""
    with pytest.raises(ValueError, match="JSON"):
        envelope.pack({"prompt": "x", "guidance_scale": value})


def test_a_bad_id_is_refused() -> None:
    """An id that is no UUID stops at the producer, where it can be repaired."""
    with pytest.raises(ValueError, match="UUID"):
        envelope.pack({"prompt": "x", "id": "mine"})


def test_ids_sort_by_time() -> None:
    """A later id is larger, so that newest first is also largest first."""
    assert envelope.new_id(now_ms=1) < envelope.new_id(now_ms=2)
