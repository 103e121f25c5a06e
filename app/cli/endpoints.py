"""`renderfarm endpoints`: where webhooks are sent."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli.deliveries import TENANT, shown
from app.cli.operate import reach
from app.config.settings import Settings
from app.tenants.tenants import find_by_name
from app.webhooks.endpoints import (
    MAX_GRACE_S,
    EndpointChange,
    EndpointRequest,
    Endpoints,
    Form,
    parse,
)

if TYPE_CHECKING:
    from uuid import UUID

ENDPOINT = click.argument("endpoint_id", type=click.UUID)
EVENTS = click.option(
    "--event",
    "events",
    multiple=True,
    help="An event, such as job.failed. Default: all final events.",
)


@click.group()
def endpoints() -> None:
    """Manage the endpoints that receive the webhooks of all jobs of a tenant."""


@endpoints.command("add")
@click.argument("url")
@TENANT
@EVENTS
@click.option("--description", default="", help="A note for yourself.")
def add(url: str, tenant: str, events: tuple[str, ...], description: str) -> None:
    """Add an endpoint; print its id and the secret that signs its deliveries."""
    engine = reach()
    fields = {"url": url, "events": list(events), "description": description}
    asked = _asked(EndpointRequest, fields)
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
            str(row["id"]), escape(row["url"]), ", ".join(row["events"]) or "all final", state,
            shown(row["failing_since"]), escape(row["description"]),
        )  # fmt: skip
    Console().print(table)


@endpoints.command("secret")
@ENDPOINT
@TENANT
def secret(endpoint_id: UUID, tenant: str) -> None:
    """Print the secret that signs its deliveries now."""
    engine = reach()
    click.echo(Endpoints(engine).secret(find_by_name(engine, tenant).id, endpoint_id))


@endpoints.command("rotate")
@ENDPOINT
@TENANT
@click.option(
    "--grace", "grace_s", type=click.FloatRange(0, MAX_GRACE_S), default=86_400,
    show_default=True, help="Seconds for which the old secret also signs.",
)  # fmt: skip
def rotate(endpoint_id: UUID, tenant: str, grace_s: float) -> None:
    """Make a new secret and print it."""
    engine = reach()
    _, made = Endpoints(engine).rotate(find_by_name(engine, tenant).id, endpoint_id, grace_s)
    click.echo(made)


@endpoints.command("change")
@ENDPOINT
@TENANT
@click.option("--url", help="The new URL; pending deliveries are sent there at once.")
@click.option(
    "--event",
    "events",
    multiple=True,
    help="An event, such as job.failed; replaces all earlier ones.",
)
@click.option("--all-final", is_flag=True, help="Send all final events.")
@click.option("--description", help="A note for yourself.")
def change(
    *, endpoint_id: UUID, tenant: str, events: tuple[str, ...], all_final: bool, **named: str | None
) -> None:
    """Change the given settings; the others stay."""
    if events and all_final:
        raise click.UsageError("give --event or --all-final, not both")
    fields: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if events or all_final:
        fields["events"] = list(events)
    if not fields:
        raise click.UsageError("give at least one thing to change")
    engine = reach()
    asked = _asked(EndpointChange, fields)
    Endpoints(engine).change(find_by_name(engine, tenant).id, endpoint_id, asked)
    click.echo("changed")


def _asked(form: type[Form], fields: dict[str, Any]) -> Form:
    allow = Settings.from_environment(os.environ, needs=()).webhook_allow_private
    return parse(json.dumps(fields).encode(), form, allow_private=allow)


def _switch(verb: str, says: str, *, enabled: bool) -> None:
    @endpoints.command(verb, help=says)
    @ENDPOINT
    @TENANT
    def switch(endpoint_id: UUID, tenant: str) -> None:
        engine = reach()
        tenant_id = find_by_name(engine, tenant).id
        Endpoints(engine).change(tenant_id, endpoint_id, EndpointChange(enabled=enabled))
        click.echo(f"{verb}d")


_switch(
    "enable",
    "Enable it again. To send what was given up: `renderfarm deliveries replay`.",
    enabled=True,
)
_switch(
    "disable",
    "Disable it: nothing is sent there, and pending deliveries are given up.",
    enabled=False,
)


@endpoints.command("remove")
@ENDPOINT
@TENANT
def remove(endpoint_id: UUID, tenant: str) -> None:
    """Remove it. The log of its deliveries stays."""
    engine = reach()
    Endpoints(engine).remove(find_by_name(engine, tenant).id, endpoint_id)
    click.echo("removed")
