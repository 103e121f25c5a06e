"""An open-loop load generator: `python -m tests.chaos.flood URL KEY RATE SECONDS MODEL PROMPT`.

It submits at an even rate without waiting for answers, each request on its own connection, and
prints the answers as JSON. It is a process of its own with plain HTTP/1.1 over asyncio's streams,
because a client library's pool becomes slower with more open requests, and would be measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE_S = 120.0
ACCEPTED = 202


@dataclass(slots=True)
class Answers:
    """The answers: ids of accepted jobs, counts by status, refusals without Retry-After."""

    sent: int = 0
    ids: list[str] = field(default_factory=list)
    codes: dict[int, int] = field(default_factory=dict)
    without_retry_after: int = 0
    lost: int = 0
    """Connections that broke or gave no answer in time."""

    def add(self, status: int, headers: bytes, body: bytes) -> None:
        """Count one answer, whose headers are still bytes."""
        self.codes[status] = self.codes.get(status, 0) + 1
        if status == ACCEPTED:
            self.ids.append(json.loads(body)["id"])
        else:
            self.without_retry_after += b"\r\nretry-after:" not in headers.lower()


async def flood(url: str, key: str, rate: float, lasts_s: float, job: Mapping[str, str]) -> Answers:
    """Submit `job` `rate` times a second for `lasts_s`, then wait for the last answers."""
    answers, tasks = Answers(), []
    began = time.monotonic()
    while (now := time.monotonic() - began) < lasts_s:
        for n in range(answers.sent, int(now * rate)):
            body = {**job, "metadata": {"n": n}}
            tasks.append(asyncio.create_task(_submit(url, key, body, answers)))
            answers.sent += 1
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)
    return answers


async def _submit(url: str, key: str, body: Mapping[str, object], answers: Answers) -> None:
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(head.encode() + content)
            answer = await reader.read()
            writer.close()
        top, _, rest = answer.partition(b"\r\n\r\n")
        answers.add(int(top.split(b" ", 2)[1]), top, rest)
    except (OSError, TimeoutError, IndexError, ValueError):
        answers.lost += 1


def main(argv: Sequence[str]) -> int:
    """Send the flood and print the answers."""
    url, key, rate, lasts_s, model, prompt = argv
    answers = asyncio.run(
        flood(url, key, float(rate), float(lasts_s), {"model": model, "prompt": prompt})
    )
    json.dump(asdict(answers), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
