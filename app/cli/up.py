"""`renderfarm up`: starts the whole farm on this machine, with one command."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.catalog.load import load_catalog
from app.config.settings import Settings
from app.errors import FarmError
from app.local.farm import Access, LocalFarm, Options
from app.local.lock import only_farm
from app.local.output import Output, wants_colour

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_DIRECTORY = Path("var")
PORT = click.IntRange(0, 65_535)
BANNER = """
  The farm is up.

  API      {url}   (documentation: {url}/docs)
  Key      {api_key}
  Flower   {flower_url}   user {flower_user}, password {flower_password}
  Data     {directory}   (one log for each process in {directory}/log)

  Your first picture, from another terminal, in this folder:
    {command} submit "a red circle on a blue background" -o circle.png
  From anywhere else on this machine:
    export RENDERFARM_URL={url}
    export RENDERFARM_API_KEY={api_key}

  Ctrl-C stops everything. The next start finds the data and the key again.
"""


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Folder for the farm's data, logs and secrets.",
)
@click.option(
    "--port", type=PORT, default=8000, show_default=True, help="Port of the API; 0: any free port."
)
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True)
@click.option(
    "--models",
    default="",
    help="Comma-separated names; default: all models except those for tests.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Jobs that one worker carries at a time.",
)
@click.option("--flower-port", type=PORT, default=None, help="Default: 5555, or a free port.")
def up(
    *,
    directory: Path,
    port: int,
    workers: int,
    models: str,
    slots: int,
    flower_port: int | None,
) -> None:
    """Start the whole farm here, with its own Postgres and Redis.

    All servers listen on the loopback address only. Ctrl-C stops everything.
    """
    options = Options(directory.resolve(), port, workers, models, slots, flower_port)
    try:
        _run(options)
    except (FarmError, OSError) as error:
        click.echo(f"renderfarm up: {error}", err=True)
        sys.exit(1)


def _run(options: Options) -> None:
    """Lock the directory, check the settings before anything starts, and run the farm."""
    options.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    with only_farm(options.directory):
        farm = LocalFarm(options)
        _check(farm)
        colour = wants_colour(sys.stdout, os.environ)
        output = Output(sys.stdout, options.directory / "log", colour=colour)
        asyncio.run(farm.run(output, _announcer(options.directory)))


def _check(farm: LocalFarm) -> None:
    """Raise the errors that would stop a role at its start: bad settings, missing models.

    Weights are not read: the role that needs a broken file reports it.
    """
    settings = Settings.from_environment({**os.environ, **farm.environment()})
    load_catalog(settings.models_file, settings.serve, revised=False)


def _announcer(directory: Path) -> Callable[[Access], None]:
    """Return a function that prints how to use the farm, once it is ready."""

    def announce(access: Access) -> None:
        click.echo(banner(access, directory))

    return announce


def banner(access: Access, directory: Path) -> str:
    """Return what a new user must know of a farm that is ready."""
    return BANNER.format(
        url=access.url,
        api_key=access.api_key,
        flower_url=access.flower_url,
        flower_user=access.flower_user,
        flower_password=access.flower_password,
        directory=_short(directory),
        command=_command(directory),
    )


def _command(directory: Path) -> str:
    """Return how the user's shell finds `renderfarm`, and a farm that is not in ./var."""
    installed = Path(sys.executable).with_name("renderfarm")
    by_name = shutil.which("renderfarm") is not None or not installed.exists()
    command = "renderfarm" if by_name else _short(installed)
    if directory == DEFAULT_DIRECTORY.resolve():
        return command
    return f"RENDERFARM_DIR={shlex.quote(str(directory))} {command}"


def _short(path: Path) -> str:
    """Return the path relative to the current folder if it is below it, otherwise whole."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
