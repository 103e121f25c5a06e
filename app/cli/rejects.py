"""`renderfarm rejects`: queue messages that intake could not accept."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import click

from app.catalog.load import load_catalog
from app.cli.operate import reach
from app.cli.output import moment, print_table
from app.config.settings import Settings
from app.config.sources import Source
from app.errors import Refused
from app.intake.rejects import Rejects
from app.intake.replay import replay
from app.intake.role import accept_context_of
from app.tenants.tenants import find_by_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy import Engine

MAX_ROWS = 10_000


@click.group()
def rejects() -> None:
    """List, show and replay rejected queue messages."""


@rejects.command("list")
@click.option("--code", help="Only messages with this code, such as unknown_model.")
@click.option("--source", help="Only messages of this source, by its name in the list.")
@click.option("--all", "everything", is_flag=True, help="Include messages that were replayed.")
@click.option("--limit", type=click.IntRange(1, MAX_ROWS), default=50, show_default=True)
def rejects_list(*, code: str | None, source: str | None, everything: bool, limit: int) -> None:
    """List rejected messages, newest first."""
    rows = Rejects(reach()).page(code=code, source=source, unmended=not everything, limit=limit)
    columns = ("id", "at", "tenant", "source", "code", "detail", "job")
    print_table(columns, map(_cells, rows))


@rejects.command("show")
@click.argument("reject_id", type=click.UUID)
@click.option("--body", "only_body", is_flag=True, help="Print only the body, unchanged.")
def rejects_show(reject_id: UUID, *, only_body: bool) -> None:
    """Show one rejected message with its body: `show ID --body > corrected.json`."""
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
    rejected = Rejects(engine)
    rows = (
        rejected.page(code=code, unmended=True, limit=MAX_ROWS)
        if code
        else [rejected.find(each) for each in reject_ids]
    )
    corrected = body.read() if body else None
    replayer = _Replayer(Settings.from_environment(os.environ, needs=()), engine, rejected)
    refused = sum(not replayer.replay(row, corrected) for row in rows)
    if refused:
        raise click.ClickException(f"{refused} of {len(rows)} are still rejected")


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    about = (row["tenant"], row["source"], row["code"], row["detail"], row["job_id"])
    return row["id"], moment(row["at"]), *about


class _Replayer:
    """Replays messages, each with the accept context of its source."""

    def __init__(self, settings: Settings, engine: Engine, rejected: Rejects) -> None:
        self._settings = settings
        self._engine = engine
        self._rejected = rejected
        self._catalog = load_catalog(settings.models_file, settings.serve)
        self._sources = {source.name: source for source in settings.sources}

    def replay(self, row: dict[str, Any], body: bytes | None) -> bool:
        """Replay one message and print the result. Return whether it was accepted."""
        # A source that is not configured any more has no defaults.
        source = self._sources.get(row["source"], Source("", row["tenant"]))
        try:
            context = accept_context_of(self._settings, self._engine, self._catalog, source)
            tenant = find_by_name(self._engine, row["tenant"])
            click.echo(f"{row['id']} {replay(self._rejected, context, tenant, row, body)}")
        except Refused as error:
            click.echo(f"{row['id']} {error}", err=True)
            return False
        return True
