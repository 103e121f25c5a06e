"""Role commands: each role is one process. `up` starts them all here; a cluster starts each one."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from app import log
from app.config.settings import Settings, servers_of
from app.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Callable


def _role(run: Callable[[Settings], None]) -> Callable[[], None]:
    """Run a role: settings from the environment, errors in one line."""

    @functools.wraps(run)
    def framed() -> None:
        log.configure(times=os.environ.get("RENDERFARM_LOG_TIMES") != "0")
        try:
            run(Settings.from_environment(os.environ, needs=servers_of(run.__name__)))
        except FarmError as error:
            raise click.ClickException(str(error)) from error

    return framed


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(*_: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


@click.command()
@_role
def api(settings: Settings) -> None:
    """Run the HTTP API on RENDERFARM_HOST and RENDERFARM_PORT."""
    from app.api import application  # noqa: PLC0415 - each role imports only its own

    if not settings.secret:
        raise click.ClickException("RENDERFARM_SECRET is not set: it signs the URLs of the images")
    application.run(settings)


@click.command()
@_role
def intake(settings: Settings) -> None:
    """Run intake, which turns messages of RENDERFARM_SOURCES into jobs. Any number may run."""
    from app.intake import role  # noqa: PLC0415

    role.run(settings, stop_on_signals())


@click.command()
@_role
def dispatcher(settings: Settings) -> None:
    """Run the dispatcher, with reaper and janitor. Several may run; one leads."""
    from app.dispatch import dispatcher as role  # noqa: PLC0415

    role.run(settings, stop_on_signals())


@click.command()
@_role
def courier(settings: Settings) -> None:
    """Run the courier, which delivers webhooks. Any number may run."""
    from app.webhooks import courier as role  # noqa: PLC0415

    role.run(settings)


@click.command()
def worker() -> None:
    """Run one worker: one device, RENDERFARM_SLOTS jobs at a time."""
    os.execv(sys.executable, [sys.executable, "-m", "workers"])  # noqa: S606


@click.command()
@_role
def flower(settings: Settings) -> None:
    """Run Flower on the loopback address, with a password."""
    from app import flower as role  # noqa: PLC0415

    role.main(settings)
