"""Operator commands: keys, workers, audit, migrate."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
from sqlalchemy.exc import OperationalError

from app.cli.output import print_table
from app.config.settings import Settings
from app.database import create_engine
from app.dispatch import workers as registry
from app.errors import first_line
from app.jobs.audit import INVARIANTS
from app.jobs.audit import audit as find_breaches
from app.tenants import keys as key_store
from app.tenants import tenants

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Engine, RowMapping

SHOWN_JOBS = 10
"""How many job ids `audit` prints for each breach."""


def _settings() -> Settings:
    return Settings.from_environment(os.environ, needs=("database_url",))


def reach() -> Engine:
    """Return an engine whose database answers."""
    engine = create_engine(_settings().database_url, pool_size=1)
    try:
        engine.connect().close()
    except OperationalError as error:
        cause = first_line(error.orig)
        raise click.ClickException(f"cannot connect to the database: {cause}") from error
    return engine


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--tenant",
    default=tenants.DEFAULT_TENANT,
    show_default=True,
    help="Name of the tenant; created if it is new.",
)
def keys_create(name: str, tenant: str) -> None:
    """Create a key and print it. It is shown only once: the farm stores its hash."""
    engine, key = reach(), key_store.new_key()
    key_store.add_key(engine, tenants.ensure_tenant(engine, tenant), key, name)
    click.echo(key)


@keys.command("list")
def keys_list() -> None:
    """List the keys, without the secret part."""
    rows = key_store.list_keys(reach())
    print_table(("id", "tenant", "name", "made", "revoked"), map(_key_cells, rows))


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
def keys_revoke(key_id: UUID) -> None:
    """Revoke a key: it is invalid from now on."""
    if not key_store.revoke_key(reach(), key_id):
        raise click.ClickException(f"there is no valid key with the id {key_id}")
    click.echo("revoked")


@click.command()
def workers() -> None:
    """List the workers that are alive."""
    rows = registry.living(reach())
    print_table(("id", "device", "models", "slots", "since", "done"), map(_worker_cells, rows))


@click.command()
def audit() -> None:
    """Check every invariant of the database; exit 1 on a breach."""
    breaches = find_breaches(reach())
    for breach in breaches:
        shown = ", ".join(breach.job_ids[:SHOWN_JOBS])
        more = (
            f" and {len(breach.job_ids) - SHOWN_JOBS} more"
            if len(breach.job_ids) > SHOWN_JOBS
            else ""
        )
        click.echo(f"breached: {breach.invariant}: {shown}{more}")
    count = sum(len(breach.job_ids) for breach in breaches)
    click.echo(f"{count} problems ({len(INVARIANTS)} invariants checked)")
    sys.exit(1 if breaches else 0)


@click.command()
def migrate() -> None:
    """Migrate the database to the newest schema."""
    from app.database import migrate as upgrade  # noqa: PLC0415 - imports Alembic

    upgrade(_settings().database_url)
    click.echo("the database is at the newest schema")


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _key_cells(row: RowMapping) -> tuple[object, ...]:
    created, revoked = _minute(row["created_at"]), _minute(row["revoked_at"])
    return row["id"], row["tenant"], row["name"], created, revoked


def _worker_cells(row: RowMapping) -> tuple[object, ...]:
    models = ", ".join(row["models"])
    done = ", ".join(f"{name} {value}" for name, value in row["stats"].items())
    return row["id"], row["device"], models, row["slots"], f"{row['started_at']:%H:%M:%S}", done
