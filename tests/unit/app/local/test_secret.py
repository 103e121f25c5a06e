"""Secrets that are made once and kept."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from app.local.errors import LocalError
from app.local.secret import kept

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_secret_each_time(tmp_path: Path) -> None:
    """A secret is made on first use, kept, and differs from every other."""
    file = tmp_path / "farm" / "secrets.json"
    key = kept(file, "api_key", prefix="rf_")
    assert key.startswith("rf_")
    assert len(key) > 40
    assert kept(file, "password") not in key
    assert kept(file, "api_key") == key


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """The file is closed to others from the moment it is there."""
    kept(tmp_path / "secrets.json", "password")
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_damaged_file_is_not_overwritten(tmp_path: Path, content: str) -> None:
    """Secrets that can't be read are an error: new ones would lock the owner out of the data."""
    file = tmp_path / "secrets.json"
    file.write_text(content)
    with pytest.raises(LocalError, match="is damaged"):
        kept(file, "password")
    assert file.read_text() == content
