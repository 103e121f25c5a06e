"""R13: one tenant submits ten times what the farm can do; another goes on as if nothing were."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from app.broker import queue_of
from app.jobs import tenants
from tests.chaos.load import MODEL, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.stage import KEY, Stage

OTHER_KEY = "rf_" + "other" * 8
SLOTS = 4
SECONDS_EACH = 0.5
MAX_QUEUED = 200
BATCH = SLOTS * 2
REFUSALS = {429, 503}
PATIENCE = httpx.Timeout(120, pool=None)
MANY = httpx.Limits(max_connections=None)


def run(lasts_s: float = 60.0, times: float = 10.0) -> Verdict:
    """`times` the farm's capacity for so long, from one tenant; one job at a time from another."""
    verdict = Verdict("R13", f"{times:g} times overload for {lasts_s:g} s")
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), slots=SLOTS) as stage:
        stage.records.execute("UPDATE tenants SET max_queued = :n", n=MAX_QUEUED)
        other = tenants.ensure_tenant(stage.engine, "other")
        tenants.add_key(stage.engine, other, OTHER_KEY, "chaos")
        alone_s = asyncio.run(_waits(stage, 5.0))
        before = stage.rss_bytes("api")
        rate = times * 2 * SLOTS / SECONDS_EACH
        ids, codes, headers, deepest, waits_s = asyncio.run(_overload(stage, rate, lasts_s))
        after = stage.rss_bytes("api")
        finish(stage, ids, 300)
        refused = sum(codes.get(code, 0) for code in REFUSALS)
        verdict.faults = [Fired(0.0, "overload", "api", f"{refused} submissions refused")]
        verdict.least("submissions refused", refused, 1)
        verdict.equal(
            "other answers", {c: n for c, n in codes.items() if c not in REFUSALS | {202}}, {}
        )
        verdict.equal("refusals without Retry-After", headers, 0)
        verdict.most("hints in Redis at most", deepest, 4 * SLOTS + BATCH)
        verdict.most("growth of the API's memory", after / before - 1, 0.1)
        verdict.most("another tenant's wait beside its wait alone", waits_s / alone_s, 2.0)
        judge(verdict, stage, ids)
    return verdict.end()


async def _overload(
    stage: Stage, rate: float, lasts_s: float
) -> tuple[list[str], dict[int, int], int, int, float]:
    ids: list[str] = []
    codes: dict[int, int] = {}
    without = deepest = 0
    async with httpx.AsyncClient(base_url=stage.url, timeout=PATIENCE, limits=MANY) as client:

        async def submit(n: int) -> None:
            nonlocal without
            answer = await _submit(client, KEY, f"slow {SECONDS_EACH}", n)
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
            if answer.status_code == httpx.codes.ACCEPTED:
                ids.append(answer.json()["id"])
            else:
                without += "retry-after" not in answer.headers

        beside = asyncio.create_task(asyncio.to_thread(asyncio.run, _waits(stage, lasts_s)))
        began, tasks = time.monotonic(), []
        while (now := time.monotonic() - began) < lasts_s:
            tasks += [asyncio.create_task(submit(n)) for n in range(len(tasks), int(now * rate))]
            deepest = max(deepest, int(stage.broker.llen(queue_of(MODEL))))  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        return ids, codes, without, deepest, await beside


async def _waits(stage: Stage, lasts_s: float) -> float:
    """How long another tenant's jobs take, one at a time, in the middle."""
    took, until = [], time.monotonic() + lasts_s
    async with httpx.AsyncClient(base_url=stage.url, timeout=PATIENCE, limits=MANY) as client:
        while time.monotonic() < until:
            began = time.monotonic()
            answer = await _submit(client, OTHER_KEY, f"slow {SECONDS_EACH}", len(took))
            if answer.status_code != httpx.codes.ACCEPTED:
                await asyncio.sleep(0.2)
                continue
            path = f"/v1/jobs/{answer.json()['id']}?wait=50"
            await client.get(path, headers={"Authorization": f"Bearer {OTHER_KEY}"})
            took.append(time.monotonic() - began)
    return sorted(took)[len(took) // 2]


async def _submit(client: httpx.AsyncClient, key: str, prompt: str, seed: int) -> Any:
    body = {"prompt": prompt, "model": MODEL, "metadata": {"n": seed}}
    return await client.post("/v1/jobs", json=body, headers={"Authorization": f"Bearer {key}"})
