"""Server-sent events: bytes in, events out."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm import Farm, Preview
from renderfarm._events import Follow, Message, SseParser
from renderfarm._flows import Policy
from renderfarm.errors import BadAnswer
from renderfarm.testing import FakeFarm
from renderfarm.types import Job, Progress, ProgressEvent, StateEvent, Status

if TYPE_CHECKING:
    from pathlib import Path

JOB = Job.from_json({"id": "1", "status": "queued"})
STREAM = (
    ": hello\r\n\r\n"
    "event: state\ndata: {}\n\n"
    "id: 7\r\nevent: progress\r\ndata: a\u2028b\r\ndata:c\r\n\r\n"
    "retry: 5\n\n"
    "data\n\n"
    "event: cut\ndata: off"
).encode()
MESSAGES = [
    Message("state", "{}", ""),
    Message("progress", "a\u2028b\nc", "7"),
    Message("message", "", "7"),
]


def say(name: str, **data: object) -> bytes:
    """Return one message of a stream."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def follow() -> Follow:
    """Follow a queued job, with a clock that stands still."""
    return Follow(JOB, 60, Policy(clock=lambda: 0.0))


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_chunks_may_be_cut_anywhere(cuts: list[int]) -> None:
    """The messages are the same wherever the bytes are cut, also inside a character."""
    parser = SseParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    assert [message for chunk in chunks for message in parser.feed(chunk)] == MESSAGES


def test_events_are_typed() -> None:
    """States carry the job, progress its steps and preview; unknown messages are ignored."""
    following = follow()
    chunk = say("state", id="1", status="running") + say("mood", x=1)
    chunk += say("progress", step=1, steps=4, preview="data:image/png;base64,eHl6")
    state, progress = following.feed(chunk)
    assert isinstance(state, StateEvent)
    assert state.job.status is Status.RUNNING
    assert progress == ProgressEvent(Progress(1, 4), Preview(b"xyz", "image/png"))


@pytest.mark.parametrize("url", ["", "data:,x", "https://a/b.png", "data:image/png;base64,?", 7])
def test_a_preview_that_is_none_is_a_bad_answer(url: object) -> None:
    """A preview that is not a picture raises BadAnswer."""
    with pytest.raises(BadAnswer):
        list(follow().feed(say("progress", step=1, steps=4, preview=url)))


def test_previews_are_pictures(tmp_path: Path) -> None:
    """A preview offers `bytes`, `save` and `pil`, like an image."""
    with Farm("http://farm", api_key="rf_x", transport=FakeFarm()) as farm:
        events = list(farm.submit("a", width=64, height=128, num_inference_steps=4).events())
    (preview, *_) = [e.preview for e in events if isinstance(e, ProgressEvent)]
    assert preview is not None
    assert preview.pil().size == (8, 16)
    assert preview.save(tmp_path / "seen.png").read_bytes() == preview.bytes()


def test_repeats_are_left_out() -> None:
    """A state that a new connection repeats is not an event; the state of another attempt is."""
    following = follow()
    again = say("state", status="running", attempt=1) + say("progress", step=1, steps=4)
    assert len(list(following.feed(again))) == 2
    following.pause_s()
    assert list(following.feed(again)) == []
    assert len(list(following.feed(say("state", status="running", attempt=2)))) == 1


def test_it_is_done_with_the_final_state() -> None:
    """Following ends only with a final state."""
    following = follow()
    list(following.feed(say("state", status="running")))
    assert not following.done
    list(following.feed(say("state", status="failed")))
    assert following.done


def test_the_last_id_is_sent_on() -> None:
    """A new connection sends Last-Event-ID, and drops an incomplete message."""
    following = follow()
    list(following.feed(b"id: 12\n" + say("progress", step=1, steps=4) + b"data: half"))
    following.pause_s()
    assert following.request.headers["Last-Event-ID"] == "12"
    assert len(list(following.feed(say("state", status="running")))) == 1


@pytest.mark.parametrize("data", ["", "[]", "{", '{"status": "paused"}'])
def test_events_that_cannot_be_read_are_named(data: str) -> None:
    """An event that no farm sends raises BadAnswer."""
    with pytest.raises(BadAnswer):
        list(follow().feed(f"event: state\ndata: {data}\n\n".encode()))
