"""Both clients over a real socket, with a server that breaks connections."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from renderfarm import AsyncFarm, BadAnswer, Farm, StateEvent, TransportError

Play = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Plays one scene for each request, in order, on a loopback port, and records the requests."""

    def __init__(self) -> None:
        self.scenes: list[Play] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                outer.scenes.pop(0)(self)
                self.close_connection = True

            do_POST = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Print nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def answer(status: int, body: object, **headers: str) -> Play:
    """Answer with JSON."""

    def play(to: BaseHTTPRequestHandler) -> None:
        content = json.dumps(body).encode()
        to.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(content)

    return play


def hang_up(to: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    to.wfile.flush()


def cut(to: BaseHTTPRequestHandler) -> None:
    """Announce more bytes than are sent."""
    to.send_response(200)
    to.send_header("Content-Length", "1000")
    to.end_headers()
    to.wfile.write(b'{"id": ')


def stream(*messages: tuple[str, Mapping[str, object]]) -> Play:
    """Stream events, then close."""

    def play(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "text/event-stream")
        to.end_headers()
        for name, data in messages:
            to.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())

    return play


@pytest.fixture
def server() -> Iterator[Server]:
    """A server without scenes."""
    server = Server()
    yield server
    server.stop()


QUEUED = {"id": "1", "status": "queued"}
DONE = {"id": "1", "status": "succeeded"}
BROKEN_STREAM = [
    stream(("state", QUEUED), ("progress", {"step": 1, "steps": 4})),
    hang_up,
    answer(503, {"code": "draining"}),
    stream(("state", QUEUED), ("progress", {"step": 2, "steps": 4}), ("state", DONE)),
]


def patient(server: Server) -> Farm:
    """Return a client that does not sleep."""
    return Farm(server.url, "rf_x", sleep=lambda _: None)


def test_broken_connections_are_retried(server: Server) -> None:
    """A closed connection and a truncated body are retried with the same idempotency key."""
    server.scenes = [hang_up, cut, answer(503, {}), answer(202, QUEUED)]
    with patient(server) as farm:
        assert farm.submit("a").id == "1"
    assert len({headers["idempotency-key"] for _, headers in server.requests}) == 1
    assert {headers["authorization"] for _, headers in server.requests} == {"Bearer rf_x"}
    assert len(server.requests) == 4


def test_waits_are_held_by_the_farm(server: Server) -> None:
    """A wait asks the farm to hold its answer, at most for the remaining time."""
    server.scenes = [answer(202, QUEUED), answer(200, QUEUED), answer(200, DONE)]
    with patient(server) as farm:
        farm.submit("a").wait(timeout=7)
    assert [path for path, _ in server.requests[1:]] == ["/v1/jobs/1?wait=7"] * 2


def test_events_go_on_after_a_break(server: Server) -> None:
    """A broken event stream is opened again until the final state, and no event is repeated."""
    server.scenes = [answer(200, QUEUED), *BROKEN_STREAM]
    with patient(server) as farm:
        events = list(farm.job("1").events())
    assert [type(each).__name__ for each in events] == [
        "StateEvent",
        "ProgressEvent",
        "ProgressEvent",
        "StateEvent",
    ]
    assert isinstance(events[-1], StateEvent)
    assert events[-1].job.done


def test_the_awaiting_client_does_the_same(server: Server) -> None:
    """`AsyncFarm` survives the same broken connections."""

    async def use() -> int:
        async with AsyncFarm(server.url, "rf_x", sleep=lambda _: asyncio.sleep(0)) as farm:
            job = await farm.submit("a")
            return len([event async for event in job.events()])

    server.scenes = [hang_up, cut, answer(202, QUEUED), *BROKEN_STREAM]
    assert asyncio.run(use()) == 4


def test_a_dead_address_is_named() -> None:
    """If no server listens, the error names the address and keeps the cause."""
    quiet = Server()
    quiet.stop()
    with (
        Farm(quiet.url, "rf_x", max_retries=1, sleep=lambda _: None) as farm,
        pytest.raises(TransportError, match=r"127\.0\.0\.1") as caught,
    ):
        farm.models()
    assert caught.value.__cause__ is not None


def test_the_key_is_not_taken_elsewhere(server: Server) -> None:
    """Redirects of the API are not followed: the key is sent only to the given URL."""
    server.scenes = [answer(307, {}, Location="/elsewhere")]
    with patient(server) as farm, pytest.raises(BadAnswer, match="/elsewhere"):
        farm.submit("a")
    assert len(server.requests) == 1
