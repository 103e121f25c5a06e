"""`renderfarm deliveries`: the log of webhooks, and replay."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import click

from app.cli.operate import reach
from app.cli.options import TENANT
from app.cli.output import moment, print_table
from app.tenants.tenants import find_by_name
from app.webhooks.history import Filter, History

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


@click.group()
def deliveries() -> None:
    """Show the log of webhooks, and replay deliveries."""


@deliveries.command("list")
@TENANT
@click.option("--job", "job_id", type=click.UUID, help="Only deliveries of this job.")
@click.option(
    "--endpoint", "endpoint_id", type=click.UUID, help="Only deliveries to this endpoint."
)
@click.option("--state", type=click.Choice(["pending", "delivered", "dead"]))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def list_deliveries(
    *, tenant: str, job_id: UUID | None, endpoint_id: UUID | None, state: str | None, limit: int
) -> None:
    """List deliveries, newest first."""
    engine = reach()
    wanted = Filter(job_id, endpoint_id, state)
    rows = History(engine).page(find_by_name(engine, tenant).id, wanted, limit=limit)
    columns = ("id", "at", "type", "job", "url", "state", "tries", "last")
    print_table(columns, map(_cells, rows))


@deliveries.command("show")
@click.argument("delivery_id", type=click.UUID)
@TENANT
def show(delivery_id: UUID, tenant: str) -> None:
    """Show each try of a delivery: its time, and the beginning of the answer."""
    engine = reach()
    row, tries = History(engine).find(find_by_name(engine, tenant).id, delivery_id)
    click.echo(f"{row['type']} of job {row['job_id']} to {row['url']}: {row['state']}")
    if row["state"] == "pending":
        click.echo(f"next try {moment(row['next_try_at'])}")
    cells = (
        (
            moment(each["at"]),
            f"{each['took_s']:.3f} s",
            each["status"],
            each["error"],
            each["answer"],
        )
        for each in tries
    )
    print_table(("at", "took", "status", "error", "answer"), cells)


@deliveries.command("replay")
@click.argument("delivery_ids", type=click.UUID, nargs=-1)
@TENANT
@click.option(
    "--since", type=click.DateTime(), help="All deliveries since this time (UTC), instead of by id."
)
@click.option(
    "--endpoint",
    "endpoint_id",
    type=click.UUID,
    help="With --since: only deliveries to this endpoint.",
)
@click.option(
    "--state",
    type=click.Choice(["delivered", "dead"]),
    help="With --since: only deliveries in this state.",
)
def replay(
    *,
    delivery_ids: tuple[UUID, ...],
    tenant: str,
    since: datetime | None,
    endpoint_id: UUID | None,
    state: str | None,
) -> None:
    """Send deliveries again, each with its own webhook-id, and print how many."""
    if bool(delivery_ids) == bool(since):
        raise click.UsageError("give delivery ids, or a time with --since")
    engine = reach()
    history, tenant_id = History(engine), find_by_name(engine, tenant).id
    if since:
        wanted = Filter(None, endpoint_id, state)
        count = history.replay_since(tenant_id, since.replace(tzinfo=UTC), wanted)
    else:
        count = sum(history.replay(tenant_id, each) for each in delivery_ids)
    click.echo(f"{count} will be sent again")


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    last = row["last_error"] or row["last_status"]
    about = (row["type"], row["job_id"], row["url"], row["state"], row["tries"])
    return row["id"], moment(row["created_at"]), *about, last
