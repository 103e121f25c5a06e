"""A job's server-sent events without I/O: bytes in, events out, and when to reconnect."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from renderfarm import _calls, errors
from renderfarm._flows import failure
from renderfarm._preview import Preview
from renderfarm.types import Event, Job, Progress, ProgressEvent, StateEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from renderfarm._flows import Policy, Reply

SILENCE_S = 60.0
"""A stream without a byte for this long is dead: a farm sends a comment every few seconds."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an event stream."""

    name: str
    data: str
    id: str


class SseParser:
    """Reads an event stream (HTML Living Standard, 9.2.6), for lines that end in LF or CRLF."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Take bytes in any portions, and yield each message that they complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = self._line(line.removesuffix(b"\r").decode(errors="replace"))
            if message is not None:
                yield message

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None

    def _dispatch(self) -> Message | None:
        message = Message(self._name or "message", "\n".join(self._data), self._id)
        complete = bool(self._data)
        self._name, self._data = "", []
        return message if complete else None


class Follow:
    """Follows one job to its end over as many connections as necessary.

    Feed it the bytes; report a failed connection; sleep `pause_s()` between connections. Events
    that a new connection repeats are left out. `done` is true after the final state.
    """

    def __init__(self, job: Job, timeout_s: float, policy: Policy) -> None:
        self.done = False
        self._job = job
        self._timeout_s = timeout_s
        self._deadline = policy.clock() + timeout_s
        self._policy = replace(policy, until=self._deadline)
        self._parser = SseParser()
        self._last_id = ""
        self._last: dict[type[Event], object] = {}
        self._tried = 0
        self._error: errors.RenderfarmError | None = None

    @property
    def request(self) -> _calls.Request:
        """The request that opens the stream, from where the last connection ended."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        path = _calls.path(self._job.id, "/events")
        return _calls.Request("GET", path, headers=headers, timeout_s=SILENCE_S)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that these bytes complete. Raises WaitTimeout, BadAnswer."""
        for message in self._parser.feed(chunk):
            self._tried = 0
            self._last_id = message.id
            event = self._event(message)
            if event is not None and not self._seen(event):
                yield event
        if not self.done and self._policy.clock() >= self._deadline:
            raise errors.WaitTimeout(self._job, self._timeout_s)

    def failed(self, reply: Reply) -> None:
        """Record why the connection could not be opened, or broke."""
        self._error = failure(reply)

    def pause_s(self) -> float:
        """Return the pause before the next connection.

        Raises the error of this connection if another try cannot help or the time is over.
        """
        closed_early = errors.WaitTimeout(self._job, self._timeout_s)
        error, self._error = self._error or closed_early, None
        pause_s = self._policy.pause_s(error, self._tried)
        if pause_s is None:
            raise error
        self._parser = SseParser()
        self._tried += 1
        return pause_s

    def _event(self, message: Message) -> Event | None:
        try:
            if message.name == "state":
                return StateEvent(Job.from_json({"id": self._job.id} | json.loads(message.data)))
            if message.name == "progress":
                data = json.loads(message.data)
                url = data.get("preview")
                preview = None if url is None else Preview.from_data_url(url)
                return ProgressEvent(Progress.from_json(data), preview)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.BadAnswer(f"cannot read the event {message.data[:80]!r}") from error
        return None  # a kind from a newer farm

    def _seen(self, event: Event) -> bool:
        mark: object = event
        if isinstance(event, StateEvent):
            self._job = event.job
            self.done = event.job.done
            mark = (event.job.status, event.job.attempt)
        seen = self._last.get(type(event)) == mark
        self._last[type(event)] = mark
        return seen
