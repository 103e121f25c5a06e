"""`renderfarm tenants`: what a tenant may, and the secret that signs its jobs' own webhooks."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from app.cli.operate import reach
from app.jobs import tenants as records

MAX_GRACE_S = 7 * 86_400


@click.group()
def tenants() -> None:
    """Limits and webhook secrets of tenants. A tenant is made by `renderfarm keys create`."""


@tenants.command("list")
def list_all() -> None:
    """List the tenants and their limits."""
    table = Table("name", "may queue", "URLs last, s", "prompts in files", "made")
    for row in records.list_tenants(reach()):
        lasts = str(row["url_expiry_s"] or "as set for all")
        prompts, made = "yes" if row["embed_prompt"] else "no", f"{row['created_at']:%Y-%m-%d}"
        table.add_row(row["name"], str(row["max_queued"]), lasts, prompts, made)
    Console().print(table)


@tenants.command("set")
@click.argument("name")
@click.option("--max-queued", type=click.IntRange(0), help="Jobs that may wait at a time.")
@click.option(
    "--url-expiry", "url_expiry_s", type=click.IntRange(0, 604_800),
    help="Seconds for which the URLs of its images last; 0: as set for all.",
)  # fmt: skip
@click.option(
    "--embed-prompt/--no-embed-prompt", default=None, help="Whether files may hold the prompt."
)
def set_limits(
    *, name: str, max_queued: int | None, url_expiry_s: int | None, embed_prompt: bool | None
) -> None:
    """Change a tenant's limits, from now on."""
    engine = reach()
    tenant = records.find_by_name(engine, name)
    records.set_limits(
        engine,
        tenant,
        max_queued=max_queued,
        url_expiry_s=url_expiry_s,
        embed_prompt=embed_prompt,
    )
    click.echo("set")


@tenants.command("secret")
@click.argument("name")
def secret(name: str) -> None:
    """Print the secret that signs webhooks to URLs that the tenant's jobs name themselves."""
    engine = reach()
    click.echo(records.webhook_secret(engine, records.find_by_name(engine, name)))


@tenants.command("rotate")
@click.argument("name")
@click.option(
    "--grace", "grace_s", type=click.FloatRange(0, MAX_GRACE_S), default=86_400,
    show_default=True, help="Seconds for which the old secret signs, too.",
)  # fmt: skip
def rotate(name: str, grace_s: float) -> None:
    """Make a new secret and print it."""
    engine = reach()
    click.echo(records.rotate_secret(engine, records.find_by_name(engine, name), grace_s))
