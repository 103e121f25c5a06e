"""R13: one tenant submits ten times what the farm can do; another goes on as if nothing were."""

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
"""Jobs a second that the two workers can do."""
MAX_QUEUED = 200
BATCH = SLOTS * 2
REFUSALS = {"429", "503"}
ACCEPTED = "202"


def run(lasts_s: float = 60.0, times: float = 10.0) -> Verdict:
    """`times` the farm's capacity for so long, from one tenant; one job at a time from another."""
    verdict = Verdict("R13", f"{times:g} times overload for {lasts_s:g} s")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), slots=SLOTS) as rig:
        rig.database.execute("UPDATE tenants SET max_queued = :n", n=MAX_QUEUED)
        other = tenants.ensure_tenant(rig.engine, "other")
        keys.add_key(rig.engine, other, OTHER_KEY, "chaos")
        ids = asyncio.run(_flood(rig, CAPACITY / 2, 5.0))["ids"]  # as a farm in use is
        alone_s = asyncio.run(_waits(rig, 5.0))
        before = rig.rss_bytes("api")
        answers, deepest, waits_s = asyncio.run(_overload(rig, times * CAPACITY, lasts_s))
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
        verdict.most("hints in Redis at most", deepest, 4 * SLOTS + BATCH)
        verdict.most("growth of the API's memory", after / before - 1, 0.1)
        verdict.most("another tenant's wait beside its wait alone", waits_s / alone_s, 2.0)
        judge(verdict, rig, ids)
    return verdict.end()


async def _overload(rig: Rig, rate: float, lasts_s: float) -> tuple[dict[str, Any], int, float]:
    """What the flood was answered, the most hints in Redis meanwhile, and another tenant's wait."""
    deepest = 0

    async def watch() -> None:
        nonlocal deepest
        while True:
            deepest = max(deepest, int(rig.broker.llen(queue_of(MODEL))))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    answers, waits_s = await asyncio.gather(_flood(rig, rate, lasts_s), _waits(rig, lasts_s))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return answers, deepest, waits_s


async def _flood(rig: Rig, rate: float, lasts_s: float) -> dict[str, Any]:
    """Have another process submit at this rate, and return what it was answered."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.flood"),
        *(rig.url, KEY, str(rate), str(lasts_s), MODEL, f"slow {SECONDS_EACH}"),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    answers: dict[str, Any] = json.loads(said)
    return answers


async def _waits(rig: Rig, lasts_s: float) -> float:
    """How long another tenant's jobs take, one at a time, in the middle."""
    took: list[float] = []
    until = time.monotonic() + lasts_s
    head = {"Authorization": f"Bearer {OTHER_KEY}"}
    async with httpx.AsyncClient(base_url=rig.url, timeout=120, headers=head) as client:
        while time.monotonic() < until:
            began = time.monotonic()
            body = {"prompt": f"slow {SECONDS_EACH}", "model": MODEL, "metadata": {"n": len(took)}}
            answer = await client.post("/v1/jobs", json=body)
            if answer.status_code != httpx.codes.ACCEPTED:
                await asyncio.sleep(0.2)
                continue
            await client.get(f"/v1/jobs/{answer.json()['id']}?wait=50")
            took.append(time.monotonic() - began)
    return sorted(took)[len(took) // 2]
