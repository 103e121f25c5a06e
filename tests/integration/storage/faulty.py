"""A network that spoils what goes through it, between the farm and an S3 server."""

from __future__ import annotations

import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSED_ON = ("content-type", "cache-control", "content-disposition", "range", "x-amz-tagging")
FAULTS = ("500", "503", "403", "truncated", "cut off", "slow")


class FaultyNetwork(ThreadingHTTPServer):
    """Passes requests on, but for a share of them, to which one of `faults` happens instead.

    `500`, `503`, `403`: answered so. `truncated`: half of an upload arrives. `cut off`: the answer
    ends in its middle. `slow`: nothing is answered until the caller has given up. `sent` are the
    requests as they came: method, body, and headers by their lower-case names.
    """

    daemon_threads = True

    def __init__(self, target: str, faults: Sequence[str] = FAULTS, share: float = 0.3) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.client = httpx.Client(base_url=target, trust_env=False)
        self.share = share
        self.hits = 0
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.ended = threading.Event()
        self._faults = faults
        self._random = random.Random(7)  # noqa: S311 - the same faults at each run
        self._lock = threading.Lock()

    def draw(self) -> str | None:
        """The fault of the next request, or none."""
        with self._lock:
            if self._random.random() >= self.share:
                return None
            self.hits += 1
            return self._random.choice(self._faults)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()
        self.client.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that hung up."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyNetwork

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = {name.lower(): value for name, value in self.headers.items()}
        self.server.sent.append((self.command, body, told))
        fault = self.server.draw()
        if fault == "slow":
            self.server.ended.wait(5)
            return
        if fault in {"500", "503", "403"}:
            self._answer(int(fault), {}, b"<Error><Code>Fault</Code></Error>")
            return
        if fault == "truncated":
            body = body[: len(body) // 2]
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        headers["authorization"] = self.headers.get("authorization", "")
        answer = self.server.client.request(self.command, self.path, headers=headers, content=body)
        half = len(answer.content) // 2 if fault == "cut off" else None
        self._answer(answer.status_code, dict(answer.headers), answer.content, half)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _pass  # noqa: N815 - the library's names

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name in ("content-type", "etag", "last-modified", "cache-control"):
            if name in headers:
                self.send_header(name, headers[name])
        length = headers.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
