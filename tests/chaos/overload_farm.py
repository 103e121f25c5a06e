"""R13: overload (backpressure, fairness). One tenant submits ten times the capacity."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from app.broker import queue_of
from app.config.repository import REPOSITORY
from app.tenants import keys, tenants
from tests.chaos.load import MODEL, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.rig import KEY, Rig

OTHER_KEY = "rf_" + "other" * 8
SLOTS = 4
SECONDS_EACH = 0.5
CAPACITY = 2 * SLOTS / SECONDS_EACH
"""Jobs a second of the two workers."""
MAX_QUEUED = 200
BATCH = SLOTS * 2
REFUSALS = {"429", "503"}
ACCEPTED = "202"


def run(lasts_s: float = 60.0, times: float = 10.0) -> Verdict:
    """Submit `times` the capacity for `lasts_s` from one tenant, one job at a time from another."""
    verdict = Verdict("R13", f"{times:g} times overload for {lasts_s:g} s")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), slots=SLOTS) as rig:
        rig.database.execute("UPDATE tenants SET max_queued = :n", n=MAX_QUEUED)
        other = tenants.ensure_tenant(rig.engine, "other")
        keys.add_key(rig.engine, other, OTHER_KEY, "chaos")
        ids = asyncio.run(_flood(rig, CAPACITY / 2, 5.0))["ids"]  # warm up the farm
        alone_s = asyncio.run(_waits(rig, 5.0))
        before = rig.rss_bytes("api")
        answers, most_hints, waits_s = asyncio.run(_overload(rig, times * CAPACITY, lasts_s))
        after = rig.rss_bytes("api")
        ids += answers["ids"]
        finish(rig, ids, 300)
        codes = answers["codes"]
        refused = sum(codes.get(code, 0) for code in REFUSALS)
        verdict.faults = [Fired(0.0, "overload", "api", f"{refused} submissions refused")]
        verdict.least("submissions", answers["sent"], round(0.99 * times * CAPACITY * lasts_s))
        verdict.least("submissions refused", refused, 1)
        verdict.equal("submissions without an answer", answers["lost"], 0)
        verdict.equal(
            "other answers", {c: n for c, n in codes.items() if c not in REFUSALS | {ACCEPTED}}, {}
        )
        verdict.equal("refusals without Retry-After", answers["without_retry_after"], 0)
        verdict.most("most hints in Redis", most_hints, 4 * SLOTS + BATCH)
        verdict.most("relative growth of the API's memory", after / before - 1, 0.1)
        verdict.most(
            "another tenant's wait, relative to its wait without overload", waits_s / alone_s, 2.0
        )
        judge(verdict, rig, ids)
    return verdict.end()


async def _overload(rig: Rig, rate: float, lasts_s: float) -> tuple[dict[str, Any], int, float]:
    """The answers to the flood, the most hints in Redis during it, and another tenant's wait."""
    most_hints = 0

    async def watch() -> None:
        nonlocal most_hints
        while True:
            most_hints = max(most_hints, int(rig.broker.llen(queue_of(MODEL))))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    answers, waits_s = await asyncio.gather(_flood(rig, rate, lasts_s), _waits(rig, lasts_s))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return answers, most_hints, waits_s


async def _flood(rig: Rig, rate: float, lasts_s: float) -> dict[str, Any]:
    """Submit at this rate from another process; returns the answers (see `flood.Answers`)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.flood"),
        *(rig.url, KEY, str(rate), str(lasts_s), MODEL, f"slow {SECONDS_EACH}"),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    answers: dict[str, Any] = json.loads(output)
    return answers


async def _waits(rig: Rig, lasts_s: float) -> float:
    """The median time, in seconds, that a job of another tenant takes, one job after another."""
    waits_s: list[float] = []
    end_at = time.monotonic() + lasts_s
    head = {"Authorization": f"Bearer {OTHER_KEY}"}
    async with httpx.AsyncClient(base_url=rig.url, timeout=120, headers=head) as client:
        while time.monotonic() < end_at:
            began = time.monotonic()
            body = {
                "prompt": f"slow {SECONDS_EACH}",
                "model": MODEL,
                "metadata": {"n": len(waits_s)},
            }
            answer = await client.post("/v1/jobs", json=body)
            if answer.status_code != httpx.codes.ACCEPTED:
                await asyncio.sleep(0.2)
                continue
            await client.get(f"/v1/jobs/{answer.json()['id']}?wait=50")
            waits_s.append(time.monotonic() - began)
    return sorted(waits_s)[len(waits_s) // 2]
