"""The `renderfarm` command: a lazy group, so that a command imports only its own code.

Each entry of `COMMANDS` names where a command is; its module is imported when the command is
called. The order here is the order in `renderfarm --help`.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from app.errors import FarmError

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("app.cli.up:up", "Start the whole farm here, with its own Postgres and Redis."),
    "submit": ("app.cli.client:submit", "Submit a prompt, wait, and save the pictures."),
    "jobs": ("app.cli.client:jobs", "List jobs, newest first."),
    "job": ("app.cli.client:job", "Show one job."),
    "cancel": ("app.cli.client:cancel", "Cancel a job."),
    "models": ("app.cli.client:models", "List the models that the farm serves."),
    "keys": ("app.cli.operate:keys", "Create, list and revoke API keys."),
    "tenants": (
        "app.cli.tenants:tenants",
        "List tenants; set their limits; show and rotate secrets.",
    ),
    "usage": ("app.cli.tenants:usage", "Show usage by tenant, model and day."),
    "endpoints": ("app.cli.endpoints:endpoints", "Add, list, change and stop webhook endpoints."),
    "deliveries": ("app.cli.deliveries:deliveries", "Show the log of webhooks; replay deliveries."),
    "listen": ("app.cli.listen:listen", "Receive webhooks on this machine, verify and print them."),
    "rejects": ("app.cli.rejects:rejects", "List, show and replay rejected queue messages."),
    "workers": ("app.cli.operate:workers", "List the workers and their statistics."),
    "audit": (
        "app.cli.operate:audit",
        "Check every invariant of the database; exit 1 on a breach.",
    ),
    "doctor": (
        "app.cli.doctor:doctor",
        "Check what a farm needs; --tune: measure how a model runs best.",
    ),
    "migrate": ("app.cli.operate:migrate", "Migrate the database to the newest schema."),
    "api": ("app.cli.roles:api", "Run the HTTP API."),
    "intake": ("app.cli.roles:intake", "Turn messages of cloud queues into jobs."),
    "dispatcher": ("app.cli.roles:dispatcher", "Run the dispatcher, with reaper and janitor."),
    "courier": ("app.cli.roles:courier", "Run the webhook courier."),
    "worker": ("app.cli.roles:worker", "Run one GPU worker."),
    "flower": ("app.cli.roles:flower", "Run Flower, the monitor of the workers."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command, in the order of `COMMANDS`."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the named command; None if there is none, and click then suggests one."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A farm error is one line, not a stack trace."""
        try:
            return super().invoke(ctx)
        except FarmError as error:
            raise click.ClickException(str(error)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and one-line descriptions without importing any command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="renderfarm")
def main() -> None:
    """Run AI image generation on your own GPUs, without losing a job.

    First steps: `renderfarm up`, then in a second terminal `renderfarm submit "a red circle on a
    blue background" -o circle.png`.
    """
