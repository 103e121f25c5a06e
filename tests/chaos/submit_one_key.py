"""R17: idempotency. Two hundred simultaneous submissions of one key make one job."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx

from tests.chaos.load import MODEL, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import KEY, Rig

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 200
RETRIES = 20
BUSY = 503


def run(times: int = 50) -> Verdict:
    """Submit one body under one key from many connections at once; then another body under it."""
    verdict = Verdict("R17", f"{AT_ONCE} parallel submissions of one key, {times} times")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), workers_=1) as rig:
        answers, conflicts = asyncio.run(_rounds(rig.url, times))
        accepted = [[a for a in round_ if a.status_code == 202] for round_ in answers]
        ids_by_round = [{a.json().get("id") for a in round_} for round_ in answers]
        codes = {a.status_code for round_ in answers for a in round_}
        verdict.equal("answers other than 200 and 202", sorted(codes - {200, 202}), [])
        wrong_counts = sum(len(a) != 1 for a in accepted)
        verdict.equal("keys that did not make exactly one job", wrong_counts, 0)
        wrong_ids = sum(len(ids) != 1 for ids in ids_by_round)
        verdict.equal("keys that were not answered with exactly one id", wrong_ids, 0)
        verdict.equal("other bodies refused with 409", _count(conflicts, 409), times)
        verdict.equal(
            "refusals that name both hashes", sum(map(_names_both_hashes, conflicts)), times
        )
        rows = rig.database.rows("SELECT count(*) FROM jobs")[0]["count"]
        verdict.equal("rows", rows, times)
        ids = [round_ids.pop() for round_ids in ids_by_round if round_ids]
        finish(rig, ids, 60)
        judge(verdict, rig, ids)
    return verdict.end()


async def _rounds(url: str, times: int) -> tuple[list[list[httpx.Response]], list[httpx.Response]]:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    headers = {"Authorization": f"Bearer {KEY}"}
    answers, conflicts = [], []
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=120
    ) as client:

        async def submit(key: str, prompt: str) -> httpx.Response:
            body = {"prompt": prompt, "model": MODEL}
            for _ in range(RETRIES):  # as the SDK does; the key makes a retry safe
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.post(
                        "/v1/jobs", json=body, headers={"Idempotency-Key": key}
                    )
                    if answer.status_code != BUSY:
                        break
            return answer

        for _ in range(times):
            key = str(uuid4())
            answers.append(await asyncio.gather(*(submit(key, "one") for _ in range(AT_ONCE))))
            conflicts.append(await submit(key, "another"))
    return answers, conflicts


def _count(answers: Iterable[httpx.Response], code: int) -> int:
    return sum(answer.status_code == code for answer in answers)


def _names_both_hashes(answer: httpx.Response) -> bool:
    words = answer.json()["detail"].replace(",", " ").split()
    return len({w for w in words if len(w) == 64 and int(w, 16) >= 0}) == 2
