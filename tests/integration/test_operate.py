"""The operator's commands on a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from app.cli import main

if TYPE_CHECKING:
    from tests.integration.records import FarmDatabase


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line in the environment of an operator."""
    monkeypatch.setenv("RENDERFARM_DATABASE_URL", database_url)
    monkeypatch.setenv("RENDERFARM_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def run(command: CliRunner, *arguments: str) -> Result:
    """Run a command and return its result."""
    return command.invoke(main, arguments)


def test_limits_are_set_shown_and_taken_away(command: CliRunner, farm: FarmDatabase) -> None:
    """`tenants set` changes the named limits and no others; `none` removes a limit."""
    name = farm.tenant.name
    asked = ("--max-running=4", "--keep-images-days=0.5", "--no-cache", "--max-queued=7")
    result = run(command, "tenants", "set", name, *asked)
    assert result.exit_code == 0, result.output
    (row,) = farm.rows("SELECT * FROM tenants WHERE name = :n", n=name)
    set_to = (row["max_running"], row["keep_images_s"], row["cache"], row["max_queued"])
    assert set_to == (4, 43_200, False, 7)
    assert "0.5" in run(command, "tenants").output
    run(command, "tenants", "set", name, "--max-running=none")
    (row,) = farm.rows("SELECT * FROM tenants WHERE name = :n", n=name)
    assert (row["max_running"], row["max_queued"]) == (None, 7)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nobody", "--max-running=1"),
        ("ann",),
        ("ann", "--max-running=-1"),
        ("ann", "--max-running=x"),
    ],
)
def test_what_cannot_be_set_is_refused(
    command: CliRunner, farm: FarmDatabase, arguments: tuple[str, ...]
) -> None:
    """An unknown tenant, no option, or an invalid number ends with an error and no traceback."""
    assert farm.tenant
    result = run(command, "tenants", "set", *arguments)
    assert result.exit_code != 0
    assert "Traceback" not in result.output


def test_usage_is_shown_by_tenant(command: CliRunner, farm: FarmDatabase) -> None:
    """The table has a line for each group, with its sums."""
    farm.finish(farm.claimed())
    result = run(command, "usage", "--by", "tenant,model")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "ann" in line]
    assert [part.strip() for part in line.split("│")[1:-1]] == [
        "ann", "null", "1", "1", "0", "0.2", "0.0100",
    ]  # fmt: skip
    assert run(command, "usage", "--by", "colour").exit_code == 1
