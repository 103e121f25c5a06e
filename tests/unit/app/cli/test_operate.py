"""Operator commands without a farm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner, Result

from app.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, **environment: str) -> Result:
    """Run a command with only these settings."""
    return CliRunner().invoke(main, arguments, env=environment)


def test_without_a_farm_the_missing_setting_is_named(tmp_path: Path) -> None:
    """Without a farm or a setting, a command names the variable and how to start a farm."""
    result = run("audit", RENDERFARM_DIR=str(tmp_path), RENDERFARM_DATABASE_URL="")
    assert result.exit_code == 1
    assert "RENDERFARM_DATABASE_URL is not set" in result.output
    assert "renderfarm up" in result.output


def test_a_database_out_of_reach_is_one_line(tmp_path: Path) -> None:
    """The error for a database that does not answer is one line."""
    result = run(
        "keys",
        "list",
        RENDERFARM_DIR=str(tmp_path),
        RENDERFARM_DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/nothing",
        RENDERFARM_BROKER_URL="redis://127.0.0.1:1/0",
    )
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot connect to the database: ")
    assert len(result.output.splitlines()) == 1


def test_an_unknown_command_is_refused_with_usage() -> None:
    """A command that does not exist is a usage error."""
    result = run("paint")
    assert result.exit_code == 2
    assert "No such command 'paint'" in result.output
