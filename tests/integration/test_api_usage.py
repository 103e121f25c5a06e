"""`/v1/usage` as clients see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.integration.api_server import client, fields, server, stranger

if TYPE_CHECKING:
    import httpx

    from tests.integration.records import FarmDatabase

__all__ = ["client", "server", "stranger"]


def test_usage_is_told_by_group(
    client: httpx.Client, stranger: httpx.Client, farm: FarmDatabase
) -> None:
    """What the tenant used, in groups and in all; never another tenant's."""
    farm.finish(farm.claimed(num_images=2))
    today = datetime.now(UTC).date()
    answer = client.get("/v1/usage", params={"by": "model,day"}).json()
    (row,) = answer["rows"]
    assert row == {
        "model": "null", "day": str(today), "jobs": 1, "images": 2, "cached": 0,
        "gpu_seconds": 0.25, "cost_usd": 0.01,
    }  # fmt: skip
    assert answer["total"]["images"] == 2
    assert client.get("/v1/usage", params={"to": str(today)}).json()["total"]["jobs"] == 0
    assert client.get("/v1/usage", params={"from": str(today), "by": ""}).json()["rows"][0]["jobs"]
    assert stranger.get("/v1/usage").json()["total"]["jobs"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("by=colour", "by"),
        ("by=day,day", "by"),
        ("from=yesterday", "from"),
        ("from=2026-02-02&to=2026-02-02", "from"),
    ],
)
def test_a_bad_span_or_group_is_named(client: httpx.Client, query: str, field: str) -> None:
    """Groups that are none, days that are none, and spans that end before they begin."""
    answer = client.get(f"/v1/usage?{query}")
    assert fields(answer) == [field]
