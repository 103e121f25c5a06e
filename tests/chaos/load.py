"""Load: submitting threads, and the checks of the jobs that they submitted."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from app.database import CONNECTION_ERRORS
from renderfarm.errors import RenderfarmError
from tests.waiting import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.report import Verdict
    from tests.chaos.rig import Rig

MODEL = "null"


@dataclass
class Load:
    """Submits `prompts` from several threads through the SDK, each with its own idempotency key."""

    rig: Rig
    prompts: Sequence[str]
    threads: int = 4
    twice: float = 0.0
    """The share of submissions that are repeated under the same key, 0 to 1."""
    rate: float = 0.0
    """Submissions a second of all threads together; 0 means no limit."""
    retries: int = 30
    fields: dict[str, Any] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    """The ids of accepted jobs, by key."""
    refused: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    repeats: int = 0
    mismatches: int = 0
    """Repeats that were answered with another job; must stay 0."""

    def run(self) -> None:
        """Submit all prompts; returns when each has its answer."""
        self._lock = threading.Lock()
        self._numbers = iter(range(len(self.prompts)))
        self._began = time.monotonic()
        threads = [
            threading.Thread(target=self._submit_all, args=(n,)) for n in range(self.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _submit_all(self, seed: int) -> None:
        """Submit prompts until none is left; the work of one thread."""
        generator = random.Random(seed)  # noqa: S311
        with self.rig.sdk(max_retries=self.retries) as sdk:
            while (number := self._next()) is not None:
                key, prompt = str(uuid4()), self.prompts[number]
                self._measure(partial(self._first, sdk, key, prompt), key)
                if generator.random() < self.twice:
                    self._measure(partial(self._repeat, sdk, key, prompt), key)

    def _next(self) -> int | None:
        """The number of the next prompt, when its time has come; none after the last."""
        with self._lock:
            number = next(self._numbers, None)
        if number is not None and self.rate:
            early_s = self._began + number / self.rate - time.monotonic()
            threading.Event().wait(max(0.0, early_s))
        return number

    def _measure(self, call: Callable[[], None], key: str) -> None:
        began = time.monotonic()
        try:
            call()
        except RenderfarmError as error:
            self.refused.append(f"{key}: {error}")
        self.took_s.append(time.monotonic() - began)

    def _first(self, sdk: Any, key: str, prompt: str) -> None:
        self.accepted[key] = self._send(sdk, key, prompt)

    def _repeat(self, sdk: Any, key: str, prompt: str) -> None:
        self.repeats += 1
        self.mismatches += self._send(sdk, key, prompt) != self.accepted.get(key)

    def _send(self, sdk: Any, key: str, prompt: str) -> str:
        job = sdk.submit(prompt, model=MODEL, idempotency_key=key, **self.fields)
        return str(job.id)


def finish(rig: Rig, ids: Sequence[str], within_s: float) -> float:
    """Wait until these jobs are final; returns the seconds, or `within_s` if some are not final."""
    began = time.monotonic()
    query = """SELECT count(*) FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))
               AND status IN ('queued', 'running')"""

    def all_final() -> bool:
        try:
            return bool(rig.database.rows(query, ids=list(ids))[0]["count"] == 0)
        except CONNECTION_ERRORS:  # Postgres may be one of the processes that were killed
            return False

    if poll(all_final, within_s, every_s=0.1):
        return time.monotonic() - began
    return within_s


def judge(verdict: Verdict, rig: Rig, ids: Sequence[str], *, failed: int = 0) -> None:
    """Check the farm's promise: no job lost, one final state and one complete image set each.

    `failed` is the number of jobs that must not succeed.
    """
    rows = rig.database.rows(
        """SELECT j.id, status, (request->>'num_images')::int AS wanted,
                  (SELECT count(*) FROM images i WHERE i.job_id = j.id) AS images,
                  (SELECT count(*) FROM events e WHERE e.job_id = j.id AND e.type IN
                   ('succeeded', 'failed', 'cancelled', 'expired')) AS endings
           FROM jobs j WHERE id = ANY(CAST(:ids AS uuid[]))""",
        ids=list(ids),
    )
    succeeded = [row for row in rows if row["status"] == "succeeded"]
    verdict.equal("jobs lost", len(set(ids)) - len(rows), 0)
    verdict.equal("jobs that succeeded", len(succeeded), len(set(ids)) - failed)
    verdict.equal(
        "jobs without exactly one final event", sum(row["endings"] != 1 for row in rows), 0
    )
    incomplete = sum(row["images"] != row["wanted"] for row in succeeded)
    verdict.equal("incomplete image sets", incomplete, 0)
    verdict.equal("images whose object is missing or differs", _bad_objects(rig), 0)
    verdict.equal("breaches that the audit finds", len(rig.database.breaches()), 0)


def _bad_objects(rig: Rig) -> int:
    folder, bad = rig.folder / "objects", 0
    for row in rig.database.rows("SELECT key, sha256 FROM images"):
        try:
            data = (folder / row["key"]).read_bytes()
        except FileNotFoundError:
            bad += 1
        else:
            bad += hashlib.sha256(data).hexdigest() != row["sha256"]
    return bad
