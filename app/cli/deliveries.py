"""`renderfarm deliveries`: the log of webhooks, and replay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli.operate import reach
from app.tenants.tenants import DEFAULT_TENANT, find_by_name
from app.webhooks.history import Filter, History

if TYPE_CHECKING:
    from uuid import UUID

TENANT = click.option(
    "--tenant", default=DEFAULT_TENANT, show_default=True, help="Name of the tenant."
)


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
    which = Filter(job_id, endpoint_id, state)
    table = Table("id", "at", "type", "job", "url", "state", "tries", "last")
    for row in History(engine).page(find_by_name(engine, tenant).id, which, limit=limit):
        last = row["last_error"] or str(row["last_status"] or "")
        table.add_row(
            str(row["id"]), shown(row["created_at"]), row["type"], str(row["job_id"]),
            escape(row["url"]), row["state"], str(row["tries"]), escape(last),
        )  # fmt: skip
    Console().print(table)


@deliveries.command("show")
@click.argument("delivery_id", type=click.UUID)
@TENANT
def show(delivery_id: UUID, tenant: str) -> None:
    """Show each try of a delivery: its time, and the beginning of the answer."""
    engine = reach()
    row, tries = History(engine).find(find_by_name(engine, tenant).id, delivery_id)
    click.echo(f"{row['type']} of job {row['job_id']} to {row['url']}: {row['state']}")
    if row["state"] == "pending":
        click.echo(f"next try {shown(row['next_try_at'])}")
    table = Table("at", "took", "status", "error", "answer")
    for each in tries:
        status = "" if each["status"] is None else str(each["status"])
        table.add_row(
            shown(each["at"]),
            f"{each['took_s']:.3f} s",
            status,
            escape(each["error"] or ""),
            escape(each["answer"]),
        )
    Console().print(table)


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
        which = Filter(None, endpoint_id, state)
        count = history.replay_since(tenant_id, since.replace(tzinfo=UTC), which)
    else:
        count = sum(history.replay(tenant_id, each) for each in delivery_ids)
    click.echo(f"{count} will be sent again")


def shown(at: datetime | None) -> str:
    """Format a time for a table; no time is an empty cell."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""
