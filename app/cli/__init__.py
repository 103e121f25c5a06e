"""The `renderfarm` command: one lazy group, so that `--help` is quick and a role imports only its own.

Each entry of `COMMANDS` names where a command lives; the module is imported when the command is
asked for. The order here is the order that `renderfarm --help` shows.
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
    "keys": ("app.cli.operate:keys", "Make, list and revoke API keys."),
    "tenants": ("app.cli.tenants:tenants", "List tenants, set what is allowed them, and secrets."),
    "usage": ("app.cli.tenants:usage", "Show what was used, by tenant, model and day."),
    "endpoints": ("app.cli.endpoints:endpoints", "Where webhooks go: add, list, change, stop."),
    "deliveries": ("app.cli.deliveries:deliveries", "The log of webhooks; send some once more."),
    "listen": ("app.cli.listen:listen", "Receive webhooks on this machine, verify and print them."),
    "rejects": ("app.cli.rejects:rejects", "List, show and replay messages that were refused."),
    "workers": ("app.cli.operate:workers", "List the workers and what they do."),
    "audit": ("app.cli.operate:audit", "Check every invariant of the records; exit 1 on a breach."),
    "doctor": ("app.cli.doctor:doctor", "Check what a farm needs; --tune: how a model runs best."),
    "migrate": ("app.cli.operate:migrate", "Bring the database to the newest schema."),
    "api": ("app.cli.roles:api", "Run the HTTP API."),
    "intake": ("app.cli.roles:intake", "Bring in jobs from cloud queues."),
    "dispatcher": ("app.cli.roles:dispatcher", "Run the dispatcher and reaper."),
    "courier": ("app.cli.roles:courier", "Run the webhook courier."),
    "worker": ("app.cli.roles:worker", "Run one GPU worker."),
    "flower": ("app.cli.roles:flower", "Run Flower, the view of the workers."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of `COMMANDS`."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The named command, or none: click then says so and suggests one."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the farm refuses is one line, not a stack trace."""
        try:
            return super().invoke(ctx)
        except FarmError as error:
            raise click.ClickException(str(error)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and one-liners without importing any command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="renderfarm")
def main() -> None:
    """Run AI image generation on your own GPUs, without losing a job.

    New here? `renderfarm up`, then in a second terminal `renderfarm submit "a red circle on a blue
    background" -o circle.png`.
    """
