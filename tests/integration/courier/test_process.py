"""The courier as a process: killed, and told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.integration.courier.endpoint import PATIENCE_S, endpoint
from tests.integration.courier.work import delivering

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.courier.records import Records

PROCESS = """
import os
from app.webhooks.courier import run
from app.config.settings import Settings
run(Settings.from_environment(os.environ))
"""


async def start(records: Records, directory: Path) -> asyncio.subprocess.Process:
    """A courier in a process of its own."""
    variables = {
        "RENDERFARM_DATABASE_URL": records.url,
        "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",
        "RENDERFARM_STORAGE_URL": f"file://{directory}",
        "RENDERFARM_SECRET": "sixteen letters!",
        "RENDERFARM_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, env={**os.environ, **variables}
    )


def test_a_courier_killed_in_mid_delivery_loses_nothing(records: Records, tmp_path: Path) -> None:
    """After kill -9 the lease runs out, and another courier delivers the same message."""

    async def scenario() -> None:
        async with endpoint(is_open=False) as customer:
            made = records.announce(customer.url)
            process = await start(records, tmp_path)
            await customer.got(1)
            process.kill()
            await process.wait()
            row = records.row(made)
            assert (row["state"], row["tries"]) == ("pending", 0)
            assert row["wait_s"] > 0
            records.make_due()
            customer.open.set()
            async with delivering(records.engine):
                await customer.got(2)
            assert {r.headers["webhook-id"] for r in customer.requests} == {str(made)}

    asyncio.run(scenario())
    assert records.states() == {"delivered": 1}


def test_sigterm_finishes_what_is_under_way(records: Records, tmp_path: Path) -> None:
    """A courier that is told to stop waits for the answers, settles them, and exits with 0."""

    async def scenario() -> int:
        async with endpoint(is_open=False) as customer:
            records.announce(customer.url)
            process = await start(records, tmp_path)
            await customer.got(1)
            process.send_signal(signal.SIGTERM)
            customer.open.set()
            async with asyncio.timeout(PATIENCE_S):
                return await process.wait()

    assert asyncio.run(scenario()) == 0
    assert records.states() == {"delivered": 1}
