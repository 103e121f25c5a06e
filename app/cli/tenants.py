"""Tenant commands: list, limits, secrets, usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from app.cli.operate import reach
from app.cli.options import GRACE
from app.cli.output import print_table
from app.tenants import tenants as tenant_store
from app.tenants import usage as usage_report
from app.tenants.usage import FIGURES, Span, groups_of
from app.tenants.webhook_secrets import rotate_secret, webhook_secret

if TYPE_CHECKING:
    from datetime import datetime

DAY_S = 86_400
DAY = click.DateTime(["%Y-%m-%d"])


class Limit(click.ParamType[Any]):
    """A number, or `none` for no limit."""

    name = "number|none"

    def __init__(self, kind: type, least: float = 0.0) -> None:
        self._kind = kind
        self._least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number; NO_LIMIT for `none`."""
        if value == "none":
            return tenant_store.NO_LIMIT
        try:
            number = self._kind(value)
        except (ValueError, TypeError):
            number = None
        if number is None or not self._least <= number < 1e15:
            self.fail(f"{value!r} is neither a number from {self._least:g} nor `none`", param, ctx)
        return number


@click.group(invoke_without_command=True)
@click.pass_context
def tenants(context: click.Context) -> None:
    """List the tenants; `set` changes a tenant's limits."""
    if context.invoked_subcommand is not None:
        return
    rows = tenant_store.list_tenants(reach())
    columns = [name.replace("_", " ") for name in rows[0]] if rows else ["name"]
    print_table(columns, (list(row.values()) for row in rows))


@tenants.command("set")
@click.argument("name")
@click.option(
    "--max-queued", type=click.IntRange(0, 2**31 - 1), help="Largest number of queued jobs."
)
@click.option("--max-running", type=Limit(int), help="Largest number of running jobs.")
@click.option("--max-requests-per-s", type=Limit(float, 0.001), help="API requests per second.")
@click.option("--max-gpu-seconds-per-day", type=Limit(float), help="GPU-seconds per UTC day.")
@click.option(
    "--cache/--no-cache", default=None, help="Answer repeated requests from the result cache."
)
@click.option(
    "--keep-jobs-days", type=Limit(float, 0.001), help="Delete jobs this many days after their end."
)
@click.option(
    "--keep-images-days",
    type=Limit(float, 0.001),
    help="Delete images this many days after their job's end.",
)
@click.option("--url-expiry-s", type=Limit(int, 1), help="Seconds for which image URLs are valid.")
@click.option(
    "--embed-prompt/--no-embed-prompt",
    default=None,
    help="Whether image files may contain the prompt.",
)
def tenants_set(name: str, **options: Any) -> None:
    """Set a tenant's limits; options that are not given stay. `none` removes a limit."""
    changes = {key: value for key, value in options.items() if value is not None}
    for what in ("jobs", "images"):
        days = changes.pop(f"keep_{what}_days", None)
        if days is not None:
            no_limit = days is tenant_store.NO_LIMIT
            changes[f"keep_{what}_s"] = days if no_limit else days * DAY_S
    if not changes:
        raise click.UsageError("give at least one option to set")
    tenant_store.change(reach(), name, changes)
    click.echo(f"{name}: {', '.join(sorted(changes))} set")


@tenants.command("secret")
@click.argument("name")
def secret(name: str) -> None:
    """Print the secret that signs webhooks to URLs in the tenant's own jobs."""
    engine = reach()
    click.echo(webhook_secret(engine, tenant_store.find_by_name(engine, name).id))


@tenants.command("rotate")
@click.argument("name")
@GRACE
def rotate(name: str, grace_s: float) -> None:
    """Make a new secret and print it."""
    engine = reach()
    click.echo(rotate_secret(engine, tenant_store.find_by_name(engine, name).id, grace_s))


@click.command()
@click.option("--from", "since", type=DAY, help="The first day, such as 2026-01-31.")
@click.option("--to", "until", type=DAY, help="The day after the last.")
@click.option("--by", default="tenant,model,day", show_default=True)
def usage(since: datetime | None, until: datetime | None, by: str) -> None:
    """Show usage: images, GPU-seconds and cost by tenant, model and day (UTC)."""
    groups = groups_of(by)
    span = Span(since.date() if since else None, until.date() if until else None)
    columns = (*groups, *(name.replace("_", " ") for name in FIGURES))
    cells = []
    for row in usage_report.report(reach(), groups, span):
        counts = (row["jobs"], row["images"], row["cached"])
        costs = (f"{row['gpu_seconds']:.1f}", f"{row['cost_usd']:.4f}")
        cells.append((*(row[name] for name in groups), *counts, *costs))
    print_table(columns, cells)
