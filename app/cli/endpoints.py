"""`renderfarm endpoints` and `renderfarm deliveries`: where webhooks go, and what came of them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from app.cli.operate import reach
from app.jobs.tenants import DEFAULT_TENANT, find_by_name
from app.settings import Settings
from app.webhooks.endpoints import (
    MAX_GRACE_S,
    EndpointChange,
    EndpointRequest,
    Endpoints,
    parse,
)
from app.webhooks.history import Filter, History

if TYPE_CHECKING:
    from uuid import UUID

TENANT = click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose.")
EVENTS = click.option(
    "--event", "events", multiple=True, help="Such as job.failed; all final ones if none is named."
)


@click.group()
def endpoints() -> None:
    """Where a tenant's webhooks go, whichever of its jobs they tell of."""


@endpoints.command("add")
@click.argument("url")
@TENANT
@EVENTS
@click.option("--description", default="", help="For yourself.")
def add(url: str, tenant: str, events: tuple[str, ...], description: str) -> None:
    """Add an endpoint, and print its id and the secret that signs its deliveries."""
    engine = reach()
    fields = {"url": url, "events": list(events), "description": description}
    allow = Settings.from_environment(os.environ).webhook_allow_private
    asked = parse(json.dumps(fields).encode(), EndpointRequest, allow_private=allow)
    row, secret = Endpoints(engine).add(find_by_name(engine, tenant).id, asked)
    click.echo(f"{row['id']} {secret}")


@endpoints.command("list")
@TENANT
def list_all(tenant: str) -> None:
    """List a tenant's endpoints, and since when one has been failing."""
    engine = reach()
    table = Table("id", "url", "events", "state", "failing since", "description")
    for row in Endpoints(engine).of(find_by_name(engine, tenant).id):
        state = row["state"] + (f": {row['disabled_reason']}" if row["disabled_reason"] else "")
        table.add_row(
            str(row["id"]), row["url"], ", ".join(row["events"]) or "all final", state,
            _shown(row["failing_since"]), row["description"],
        )  # fmt: skip
    Console().print(table)


@endpoints.command("secret")
@click.argument("endpoint_id", type=click.UUID)
@TENANT
def secret(endpoint_id: UUID, tenant: str) -> None:
    """Print the secret that signs its deliveries now."""
    engine = reach()
    click.echo(Endpoints(engine).secret(find_by_name(engine, tenant).id, endpoint_id))


@endpoints.command("rotate")
@click.argument("endpoint_id", type=click.UUID)
@TENANT
@click.option(
    "--grace", "grace_s", type=click.FloatRange(0, MAX_GRACE_S), default=86_400,
    show_default=True, help="Seconds for which the old secret signs, too.",
)  # fmt: skip
def rotate(endpoint_id: UUID, tenant: str, grace_s: float) -> None:
    """Make a new secret and print it."""
    engine = reach()
    _, made = Endpoints(engine).rotate(find_by_name(engine, tenant).id, endpoint_id, grace_s)
    click.echo(made)


def _switch(verb: str, says: str, *, enabled: bool) -> None:
    @endpoints.command(verb, help=says)
    @click.argument("endpoint_id", type=click.UUID)
    @TENANT
    def switch(endpoint_id: UUID, tenant: str) -> None:
        engine = reach()
        whose = find_by_name(engine, tenant).id
        Endpoints(engine).change(whose, endpoint_id, EndpointChange(enabled=enabled))
        click.echo(f"{verb}d")


_switch(
    "enable",
    "Send to it again. What was given up meanwhile: `renderfarm deliveries replay`.",
    enabled=True,
)
_switch("disable", "Send nothing to it for now, and give up what waits.", enabled=False)


@endpoints.command("remove")
@click.argument("endpoint_id", type=click.UUID)
@TENANT
def remove(endpoint_id: UUID, tenant: str) -> None:
    """Forget it. The log of its deliveries stays."""
    engine = reach()
    Endpoints(engine).remove(find_by_name(engine, tenant).id, endpoint_id)
    click.echo("removed")


@click.group()
def deliveries() -> None:
    """List webhooks and what came of them, and send some once more."""


@deliveries.command("list")
@TENANT
@click.option("--job", "job_id", type=click.UUID, help="Only those of one job.")
@click.option("--endpoint", "endpoint_id", type=click.UUID, help="Only those to one endpoint.")
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
            str(row["id"]), _shown(row["created_at"]), row["type"], str(row["job_id"]),
            row["url"], row["state"], str(row["tries"]), last,
        )  # fmt: skip
    Console().print(table)


@deliveries.command("replay")
@click.argument("delivery_ids", type=click.UUID, nargs=-1)
@TENANT
@click.option("--since", type=click.DateTime(), help="All since this time (UTC), and not by id.")
@click.option("--endpoint", "endpoint_id", type=click.UUID, help="With --since: only those to it.")
@click.option("--state", type=click.Choice(["delivered", "dead"]), help="With --since: only these.")
def replay(
    *,
    delivery_ids: tuple[UUID, ...],
    tenant: str,
    since: datetime | None,
    endpoint_id: UUID | None,
    state: str | None,
) -> None:
    """Send deliveries once more, each under its own webhook-id, and say how many."""
    if bool(delivery_ids) == bool(since):
        raise click.UsageError("name deliveries, or a time with --since")
    engine = reach()
    history, whose = History(engine), find_by_name(engine, tenant).id
    if since:
        which = Filter(None, endpoint_id, state)
        count = history.replay_since(whose, since.replace(tzinfo=UTC), which)
    else:
        count = sum(history.replay(whose, each) for each in delivery_ids)
    click.echo(f"{count} will be sent again")


def _shown(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""
