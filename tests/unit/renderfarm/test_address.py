"""Addresses: where the SDK finds the farm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from renderfarm import Farm
from renderfarm._address import Address, find
from renderfarm.errors import FarmNotFound

if TYPE_CHECKING:
    from pathlib import Path

HERE = {"url": "http://127.0.0.1:8000", "api_key": "rf_file", "flower_url": "http://x"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir()
    return tmp_path


def test_arguments_come_first(folder: Path) -> None:
    """Arguments win over the environment, and the environment wins over the farm in this folder."""
    (folder / "var" / "farm.json").write_text(json.dumps(HERE))
    environ = {"RENDERFARM_URL": "http://env", "RENDERFARM_API_KEY": "rf_env"}
    assert find("http://arg/", "rf_arg", environ) == Address("http://arg", "rf_arg")
    assert find(None, None, environ) == Address("http://env", "rf_env")
    assert find(None, "rf_arg", {}) == Address("http://127.0.0.1:8000", "rf_arg")
    assert find(None, None, {}) == Address("http://127.0.0.1:8000", "rf_file")


def test_another_folder_can_be_named(folder: Path) -> None:
    """RENDERFARM_DIR says where `renderfarm up` keeps its farm.json."""
    (folder / "there").mkdir()
    (folder / "there" / "farm.json").write_text(json.dumps(HERE))
    assert find(None, None, {"RENDERFARM_DIR": "there"}).api_key == "rf_file"


def test_the_key_of_this_folder_stays_here(folder: Path) -> None:
    """A URL from an argument or the environment is never used with the local farm's key."""
    (folder / "var" / "farm.json").write_text(json.dumps(HERE))
    with pytest.raises(FarmNotFound, match="RENDERFARM_API_KEY"):
        find("http://elsewhere", None, {})


@pytest.mark.usefixtures("folder")
def test_no_farm_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any farm, the error names the variable to set and the command to run."""
    monkeypatch.delenv("RENDERFARM_URL", raising=False)
    with pytest.raises(FarmNotFound, match=r"RENDERFARM_URL.*renderfarm up"):
        Farm()


@pytest.mark.parametrize("text", ["", "[]", '{"url": "http://x"}'])
def test_a_broken_file_is_named(folder: Path, text: str) -> None:
    """The error for an unreadable farm.json names its path."""
    (folder / "var" / "farm.json").write_text(text)
    with pytest.raises(FarmNotFound, match=r"farm\.json"):
        find(None, None, {})


def test_a_url_needs_its_scheme() -> None:
    """A host without http:// is refused when the client is made, not at the first call."""
    with pytest.raises(FarmNotFound, match="http://"):
        find("localhost:8000", "rf_x", {})


def test_the_key_is_not_shown() -> None:
    """Neither an address nor a farm shows its key in a representation."""
    with Farm("http://x", "rf_secret") as farm:
        assert "rf_secret" not in repr(Address("http://x", "rf_secret")) + repr(farm)
