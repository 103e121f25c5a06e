"""`renderfarm doctor`: check what a farm needs on this machine, and tune its models."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.broker import connect
from app.catalog.load import load_catalog
from app.config.settings import Settings, models_file
from app.database import create_engine
from app.dispatch import workers
from app.errors import FarmError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.config.settings import Server


@click.command()
@click.option("--tune", metavar="MODEL", help="Measure how this model runs best on this device.")
@click.option("--dry-run", is_flag=True, help="With --tune: write nothing to models.toml.")
@click.option(
    "--skip", multiple=True, metavar="SWITCH", help="With --tune: do not try this switch."
)
@click.option(
    "--steps", type=click.IntRange(1), help="With --tune: denoising steps of each picture."
)
@click.option("--tolerance", type=float, help="With --tune: largest mean pixel error, of 255.")
def doctor(
    *,
    tune: str | None,
    dry_run: bool,
    skip: tuple[str, ...],
    steps: int | None,
    tolerance: float | None,
) -> None:
    """Check that the parts of a farm can be used; exit 1 if one cannot."""
    if tune:
        argv = [sys.executable, "-m", "workers.tune", tune, *(["--dry-run"] if dry_run else [])]
        argv += [f"--skip={switch}" for switch in skip]
        argv += [f"--steps={steps}"] if steps else []
        argv += [f"--tolerance={tolerance}"] if tolerance is not None else []
        os.execv(sys.executable, argv)  # noqa: S606 - the control plane never imports torch
    checks: dict[str, Callable[[], str]] = {
        "models": _models,
        "database": _database,
        "broker": _broker,
    }
    failed = False
    for name, check in checks.items():
        try:
            click.echo(f"{name}: {check()}")
        except (FarmError, SQLAlchemyError, redis.RedisError) as error:
            failed = True
            click.echo(f"{name}: FAILED: {first_line(error)}")
    sys.exit(1 if failed else 0)


def _settings(needed: Server) -> Settings:
    return Settings.from_environment(os.environ, needs=(needed,))


def _models() -> str:
    return ", ".join(load_catalog(models_file(os.environ), revised=False).models)


def _database() -> str:
    engine = create_engine(_settings("database_url").database_url, pool_size=1)
    try:
        with engine.connect() as connection:
            version = connection.execute(text("SHOW server_version")).scalar_one()
        return f"Postgres {version}, {workers.alive(engine)} workers"
    finally:
        engine.dispose()


def _broker() -> str:
    client = connect(_settings("broker_url").broker_url)
    try:
        return f"Redis {client.info('server')['redis_version']}"
    finally:
        client.close()
