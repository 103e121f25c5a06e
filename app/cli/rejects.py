"""`renderfarm rejects`: queue messages that intake could not accept."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from app.catalog.load import load_catalog
from app.cli.operate import reach
from app.config.settings import Settings
from app.config.sources import Source
from app.errors import Refused
from app.intake.rejects import Rejects
from app.intake.replay import replay
from app.intake.role import accept_context_of
from app.tenants.tenants import find_by_name

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Engine

MOST = 10_000


@click.group()
def rejects() -> None:
    """List, show and replay rejected queue messages."""


@rejects.command("list")
@click.option("--code", help="Only messages with this code, such as unknown_model.")
@click.option("--source", help="Only messages of this source, by its name in the list.")
@click.option("--all", "everything", is_flag=True, help="Include messages that were replayed.")
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True)
def rejects_list(*, code: str | None, source: str | None, everything: bool, limit: int) -> None:
    """List rejected messages, newest first."""
    found = Rejects(reach()).page(code=code, source=source, unmended=not everything, limit=limit)
    table = Table("id", "at", "tenant", "source", "code", "detail", "job")
    for row in found:
        job = str(row["job_id"] or "")
        at = f"{row['at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            str(row["id"]), at, row["tenant"], row["source"], row["code"], row["detail"], job
        )
    Console().print(table)


@rejects.command("show")
@click.argument("reject_id", type=click.UUID)
@click.option("--body", "only_body", is_flag=True, help="Print only the body, unchanged.")
def rejects_show(reject_id: UUID, *, only_body: bool) -> None:
    """Show one rejected message with its body: `show ID --body > mended.json`."""
    row = Rejects(reach()).find(reject_id)
    if not only_body:
        for name in ("id", "at", "tenant", "source", "message_id", "code", "detail", "trace"):
            click.echo(f"{name:12} {row[name]}")
        click.echo(f"{'sha256':12} {row['body_sha256'].hex()}")
        click.echo(f"{'bytes':12} {row['body_bytes']} ({len(row['body'])} kept)")
        click.echo(f"{'job':12} {row['job_id']}")
        click.echo()
    click.echo(bytes(row["body"]), nl=False)


@rejects.command("replay")
@click.argument("reject_ids", type=click.UUID, nargs=-1)
@click.option("--code", help="Every message with this code that was not replayed yet.")
@click.option("--body", type=click.File("rb"), help="The corrected body of one message; -: stdin.")
def rejects_replay(
    reject_ids: tuple[UUID, ...], *, code: str | None, body: IO[bytes] | None
) -> None:
    """Submit rejected messages again, and print the ids of their jobs.

    Use this after a correction: a model that is served now, a limit that was raised. A message with
    a bad body needs a corrected body.
    """
    if bool(reject_ids) == bool(code) or (body and len(reject_ids) != 1):
        raise click.UsageError("give message ids or a --code; with --body exactly one id")
    engine = reach()
    records = Rejects(engine)
    rows = (
        records.page(code=code, unmended=True, limit=MOST)
        if code
        else [records.find(each) for each in reject_ids]
    )
    mended = body.read() if body else None
    desk = _Desk(Settings.from_environment(os.environ, needs=()), engine, records)
    refused = sum(not desk.replay(row, mended) for row in rows)
    if refused:
        raise click.ClickException(f"{refused} of {len(rows)} are still rejected")


class _Desk:
    """Replays messages, each with the accept context of its source."""

    def __init__(self, settings: Settings, engine: Engine, records: Rejects) -> None:
        self._settings = settings
        self._engine = engine
        self._records = records
        self._catalog = load_catalog(settings.models_file, settings.serve)
        self._sources = {source.name: source for source in settings.sources}

    def replay(self, row: dict[str, Any], body: bytes | None) -> bool:
        """Replay one message and print the result. Return whether it was accepted."""
        # A source that is not configured any more has no defaults.
        source = self._sources.get(row["source"], Source("", row["tenant"]))
        try:
            door = accept_context_of(self._settings, self._engine, self._catalog, source)
            tenant = find_by_name(self._engine, row["tenant"])
            click.echo(f"{row['id']} {replay(self._records, door, tenant, row, body)}")
        except Refused as error:
            click.echo(f"{row['id']} {error}", err=True)
            return False
        return True
