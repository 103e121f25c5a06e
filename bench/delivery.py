"""Uploads and webhooks, compared with the bare libraries that a hand-made farm would use.

    python -m bench.delivery [--images 200] [--webhooks 2000] [--rounds 5]

Uploads: images of 1 MB to moto's S3, by the farm's storage (which reads each back) and by boto3's
`put_object`. Webhooks: a courier that claims them from Postgres, signs, posts and records them, and
httpx posting the same bodies, both to one listener.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx

from app.config.repository import REPOSITORY
from app.database import create_engine, migrate
from app.local.postgres import Postgres
from app.outbound.client import GuardedBackend, Outbound, Resolver
from app.storage.objects import ObjectStorage
from app.webhooks.courier import Courier
from app.webhooks.deliveries import Outbox
from bench import machine
from bench.figures import compare
from tests.integration.courier.conftest import fill
from tests.integration.courier.endpoint import endpoint
from tests.integration.storage import places
from tests.integration.storage.conftest import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.integration.courier.records import Records

RESULTS = REPOSITORY / "bench" / "results"
IMAGE_BYTES = 1_000_000
UPLOADERS = 4
POSTERS = 64
HEAD = """# Uploads and webhooks compared with the bare libraries

Made by `python -m bench.delivery`; do not edit. Medians of {rounds} rounds, both contenders in each. {images} images
of 1 MB a round to moto's S3, {uploaders} at a time; {webhooks} webhooks a round to one listener, {posters} at a time. Everything
is on this machine, and the emulator and the listener take their share of it.

Measured {measured_at}, commit `{commit}`; {cpu}, {cores} cores, load at the start {load_average[0]}.

| | farm | bare | ratio |
|---|---|---|---|
"""


def uploads(images: int) -> dict[str, dict[str, float]]:
    """Run one round: MB/s and ms per image of the farm, with and without reads, and of boto3."""
    data = [os.urandom(IMAGE_BYTES) for _ in range(8)]
    with places.s3() as url:
        reading = ObjectStorage(settings_of(url))
        sizing = ObjectStorage(settings_of(url, STORAGE_VERIFY="size"))
        client = boto3.session.Session().client("s3", region_name=places.REGION)

        def bare(n: int) -> None:
            client.put_object(
                Bucket="images", Key=f"bare/{n}", Body=data[n % 8], ContentType="image/png"
            )

        def farm(storage: ObjectStorage) -> Callable[[int], object]:
            return lambda n: storage.put(f"t/j{n}/1/0.png", data[n % 8], "image/png")

        for warm in (bare, farm(reading), farm(sizing)):
            warm(0)
        return {
            "farm": _rate(farm(reading), images),
            "farm, size only": _rate(farm(sizing), images),
            "bare": _rate(bare, images),
        }


def _rate(put: Callable[[int], object], images: int) -> dict[str, float]:
    began = time.monotonic()
    with ThreadPoolExecutor(UPLOADERS) as pool:
        list(pool.map(put, range(images)))
    took_s = time.monotonic() - began
    return {
        "MB/s": images * IMAGE_BYTES / 1e6 / took_s,
        "ms per image": took_s * 1000 * UPLOADERS / images,
    }


async def webhooks(records: Records, count: int) -> dict[str, dict[str, float]]:
    """Run one round: webhooks/s of a courier, and posts/s of httpx."""
    async with endpoint() as customer:
        for _ in range(count):
            records.announce(customer.url, images=1)
        began = time.monotonic()
        async with Outbound(GuardedBackend(Resolver(8), allow_private=True)) as outbound:
            courier = Courier(
                Outbox(records.engine), outbound, lambda key, _: key, per_endpoint=POSTERS
            )
            serving = asyncio.create_task(courier.serve())
            await customer.got(count)
            courier.stop()
            await serving  # all are recorded then
            farm_s = time.monotonic() - began
        bodies = [each.body for each in customer.requests]
        bare_s = await _posted(customer.url, bodies)
    return {"farm": {"webhooks/s": count / farm_s}, "bare": {"webhooks/s": count / bare_s}}


async def _posted(url: str, bodies: Sequence[bytes]) -> float:
    gate, began = asyncio.Semaphore(POSTERS), time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

        async def post(body: bytes) -> None:
            async with gate:
                await client.post(url, content=body)

        await asyncio.gather(*map(post, bodies))
    return time.monotonic() - began


def main(argv: Sequence[str]) -> int:
    """Measure both, print the table, and write it next to the other results."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery", description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--webhooks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    arguments = parser.parse_args(argv)
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "images": arguments.images,
        "webhooks": arguments.webhooks,
        "rounds": arguments.rounds,
        "uploaders": UPLOADERS,
        "posters": POSTERS,
        "uploads": [uploads(arguments.images) for _ in range(arguments.rounds)],
        "posts": [],
    }
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder, "postgres")) as postgres:
        migrate(postgres.url)
        engine = create_engine(postgres.url)
        for _ in range(arguments.rounds):
            records = fill(engine, postgres.url)
            found["posts"].append(asyncio.run(webhooks(records, arguments.webhooks)))
        engine.dispose()
    arguments.results.mkdir(exist_ok=True)
    (arguments.results / "delivery.json").write_text(json.dumps(found, indent=2) + "\n")
    table = HEAD.format(**found, **found["machine"]) + _rows(found)
    (arguments.results / "delivery.md").write_text(table)
    sys.stdout.write(table)
    return 0


def _rows(found: dict[str, Any]) -> str:
    rows = []
    for rounds, contenders in (("uploads", ("farm", "farm, size only")), ("posts", ("farm",))):
        for side in contenders:
            for name, ratio in compare(found[rounds], side, "bare").items():
                middle = len(found[rounds]) // 2
                ours, bare = (
                    sorted(each[who][name] for each in found[rounds])[middle]
                    for who in (side, "bare")
                )
                rows.append(
                    f"| {name}, {side} | {ours:.1f} | {bare:.1f} | {ratio['median']:.2f} |\n"
                )
    return "".join(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
