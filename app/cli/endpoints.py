"""`renderfarm endpoints`: where webhooks are sent."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from app.cli.operate import reach
from app.cli.options import GRACE, TENANT
from app.cli.output import moment, print_table
from app.config.settings import Settings
from app.tenants.tenants import find_by_name
from app.webhooks.endpoints import EndpointChange, EndpointRequest, Endpoints, Form, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
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
    form = _validated(EndpointRequest, fields)
    row, secret = Endpoints(engine).add(find_by_name(engine, tenant).id, form)
    click.echo(f"{row['id']} {secret}")


@endpoints.command("list")
@TENANT
def list_all(tenant: str) -> None:
    """List a tenant's endpoints, and since when one has been failing."""
    engine = reach()
    rows = Endpoints(engine).of(find_by_name(engine, tenant).id)
    columns = ("id", "url", "events", "state", "failing since", "description")
    print_table(columns, map(_cells, rows))


@endpoints.command("secret")
@ENDPOINT
@TENANT
def show_secret(endpoint_id: UUID, tenant: str) -> None:
    """Print the secret that signs its deliveries now."""
    engine = reach()
    click.echo(Endpoints(engine).secret(find_by_name(engine, tenant).id, endpoint_id))


@endpoints.command("rotate")
@ENDPOINT
@TENANT
@GRACE
def rotate(endpoint_id: UUID, tenant: str, grace_s: float) -> None:
    """Make a new secret and print it."""
    engine = reach()
    _, secret = Endpoints(engine).rotate(find_by_name(engine, tenant).id, endpoint_id, grace_s)
    click.echo(secret)


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
        raise click.UsageError("give at least one option to change")
    engine = reach()
    form = _validated(EndpointChange, fields)
    Endpoints(engine).change(find_by_name(engine, tenant).id, endpoint_id, form)
    click.echo("changed")


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    state = row["state"] + (f": {row['disabled_reason']}" if row["disabled_reason"] else "")
    events = ", ".join(row["events"]) or "all final"
    return row["id"], row["url"], events, state, moment(row["failing_since"]), row["description"]


def _validated(kind: type[Form], fields: dict[str, Any]) -> Form:
    allow = Settings.from_environment(os.environ, needs=()).webhook_allow_private
    return parse(json.dumps(fields).encode(), kind, allow_private=allow)


def _switch(verb: str, about: str, *, enabled: bool) -> None:
    @endpoints.command(verb, help=about)
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
