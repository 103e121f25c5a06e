"""Prefetch: one open streaming pull, which its own thread reads into a buffer."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1.types import StreamingPullRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.pubsub_v1 import SubscriberClient
    from google.pubsub_v1.types import ReceivedMessage

HEARTBEAT_S = 30.0
CLOSE_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 5.0


class Stream:
    """Prefetches at most `ahead` messages that are not settled, each leased for `lease_s`.

    `error` is the reason of its end, unless `close` ended it. At the end of the stream, prefetched
    messages are handed back. The stream ends by itself if nobody receives for half a lease, so that
    no message grows old in the buffer. The SDK's own `subscribe` is not used, because it renews
    leases even if the consumer hangs.
    """

    def __init__(
        self, client: SubscriberClient, subscription: str, lease_s: int, ahead: int
    ) -> None:
        self.error: GoogleAPICallError | None = None
        self.ended = False
        self._client = client
        self._first = StreamingPullRequest(
            subscription=subscription,
            stream_ack_deadline_seconds=lease_s,
            max_outstanding_messages=ahead,
        )
        self._lease_s = lease_s
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._fetched: deque[tuple[float, ReceivedMessage]] = deque()
        self._last_take = time.monotonic()
        self._call: Any = None
        self._thread = threading.Thread(target=self._read, name="pubsub-stream", daemon=True)
        self._thread.start()

    def take(self, limit: int, wait_s: float) -> list[tuple[float, ReceivedMessage]]:
        """Return up to `limit` messages with their ages in seconds.

        Wait for the first, or the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._fetched or self.ended, wait_s)
            now = self._last_take = time.monotonic()
            count = min(limit, len(self._fetched))
            fetched = [self._fetched.popleft() for _ in range(count)]
        return [(now - at, message) for at, message in fetched]

    def close(self) -> None:
        """End the stream and hand back the messages of the buffer."""
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self._cancel()
            self._thread.join()

    def _read(self) -> None:
        try:
            self._call = self._client.streaming_pull(
                requests=self._requests(), retry=None, timeout=None
            )
            for response in self._call:
                self._store(response.received_messages)
        except GoogleAPICallError as error:
            if not self._closing.is_set():
                self.error = error
        finally:
            self._end()

    def _requests(self) -> Iterator[StreamingPullRequest]:
        """Yield the request that opens the stream, then heartbeats. The stream ends on return."""
        yield self._first
        while not self._closing.wait(min(HEARTBEAT_S, self._lease_s / 4)):
            if self._idle:
                self._closing.set()
                self._cancel()
            else:
                yield StreamingPullRequest()

    @property
    def _idle(self) -> bool:
        with self._changed:
            return bool(self._fetched) and time.monotonic() - self._last_take > self._lease_s / 2

    def _store(self, messages: Any) -> None:
        with self._changed:
            now = time.monotonic()
            self._fetched.extend((now, message) for message in messages)
            self._changed.notify_all()

    def _end(self) -> None:
        self._closing.set()  # otherwise the thread that sends heartbeats would keep sleeping
        with self._changed:
            unused = [message.ack_id for _, message in self._fetched]
            self._fetched.clear()
            self.ended = True
            self._changed.notify_all()
        if unused:
            with suppress(
                GoogleAPICallError
            ):  # then they are delivered again when their leases end
                self._client.modify_ack_deadline(
                    subscription=self._first.subscription,
                    ack_ids=unused,
                    ack_deadline_seconds=0,
                    retry=None,
                    timeout=CALL_TIMEOUT_S,
                )

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
