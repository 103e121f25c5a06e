"""Each command requires only the settings that it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from app.cli import main

if TYPE_CHECKING:
    from pathlib import Path

NO_SERVER = "127.0.0.1:1"


@pytest.mark.parametrize(
    "words",
    [
        "audit",
        "usage",
        "workers",
        "keys list",
        "keys create laptop",
        "tenants set shop --max-queued 2",
        "endpoints list",
        "endpoints add https://hooks.example",
        "deliveries list",
        "rejects list",
    ],
)
def test_a_command_on_the_database_needs_no_broker(tmp_path: Path, words: str) -> None:
    """With only the database's URL a command gets as far as the connection to the database."""
    environment = {
        "RENDERFARM_DIR": str(tmp_path),
        "RENDERFARM_DATABASE_URL": f"postgresql://nobody:x@{NO_SERVER}/nothing",
        "RENDERFARM_BROKER_URL": "",
    }
    result = CliRunner().invoke(main, words.split(), env=environment)
    assert result.exit_code == 1
    assert "RENDERFARM_" not in result.output
    assert "127.0.0.1" in result.output


def test_doctor_names_only_what_each_check_lacks(tmp_path: Path) -> None:
    """The check of the database does not require the broker's URL, and the reverse."""
    environment = {
        "RENDERFARM_DIR": str(tmp_path),
        "RENDERFARM_DATABASE_URL": f"postgresql://nobody:x@{NO_SERVER}/nothing",
        "RENDERFARM_BROKER_URL": "",
    }
    lines = CliRunner().invoke(main, ["doctor"], env=environment).output.splitlines()
    assert [line for line in lines if "RENDERFARM_DATABASE_URL" in line] == []
    (missing,) = [line for line in lines if "RENDERFARM_" in line]
    assert missing.startswith("broker: FAILED: RENDERFARM_BROKER_URL is not set")


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        ("intake", {"RENDERFARM_DATABASE_URL"}),
        ("courier", {"RENDERFARM_DATABASE_URL"}),
        ("flower", {"RENDERFARM_BROKER_URL"}),
        ("dispatcher", {"RENDERFARM_DATABASE_URL", "RENDERFARM_BROKER_URL"}),
    ],
)
def test_a_role_names_all_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, missing: set[str]
) -> None:
    """A role without settings names every variable that it needs, and no other."""
    monkeypatch.setattr(
        "app.log.configure", lambda **_: None
    )  # its effect would last into other tests
    environment = {
        "RENDERFARM_DIR": str(tmp_path),
        "RENDERFARM_DATABASE_URL": "",
        "RENDERFARM_BROKER_URL": "",
    }
    result = CliRunner().invoke(main, [role], env=environment)
    assert result.exit_code == 1
    lines = result.output.removeprefix("Error: ").splitlines()
    assert {line.split()[0] for line in lines} == missing
