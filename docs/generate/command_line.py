"""The page on the command line: the help text of every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from app.cli import COMMANDS, main
from docs.generate.markdown import notice

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 96
HEAD = """# Command line

`renderfarm` is the farm's command. `make setup` installs it as `.venv/bin/renderfarm`. Every
command has `--help`; this page is those help texts.

| command | does |
|---|---|
"""


def page() -> str:
    """Return the whole page as Markdown."""
    rows = "".join(
        f"| [`{name}`](#renderfarm-{name}) | {about} |\n" for name, (_, about) in COMMANDS.items()
    )
    return HEAD.replace("\n", "\n\n" + notice("command_line"), 1) + rows + "".join(_sections())


def _sections() -> Iterator[str]:
    context = click.Context(main, info_name="renderfarm")
    for name in COMMANDS:
        command = main.get_command(context, name)
        if command is None:
            raise LookupError(name)
        yield f"\n## renderfarm {name}\n"
        yield from _helps(command, f"renderfarm {name}")


def _helps(command: click.Command, path: str) -> Iterator[str]:
    """Yield the help of a command, then of its subcommands."""
    context = click.Context(
        command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    yield "\n```text\n" + "\n".join(lines) + "\n```\n"
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            yield from _helps(part, f"{path} {name}")
