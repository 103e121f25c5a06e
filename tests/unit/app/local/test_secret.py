"""Secrets that are created once and stored."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from app.local.errors import LocalError
from app.local.secret import load_or_create

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_secret_each_time(tmp_path: Path) -> None:
    """A secret is created at first use, stored, and differs from every other."""
    file = tmp_path / "farm" / "secrets.json"
    key = load_or_create(file, "api_key", prefix="rf_")
    assert key.startswith("rf_")
    assert len(key) > 40
    assert load_or_create(file, "password") not in key
    assert load_or_create(file, "api_key") == key


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """No other user can read the file at any moment."""
    load_or_create(tmp_path / "secrets.json", "password")
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_damaged_file_is_not_overwritten(tmp_path: Path, content: str) -> None:
    """Unreadable secrets are an error: new ones would make the data inaccessible."""
    file = tmp_path / "secrets.json"
    file.write_text(content)
    with pytest.raises(LocalError, match="is damaged"):
        load_or_create(file, "password")
    assert file.read_text() == content
