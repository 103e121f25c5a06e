"""Banner: what `renderfarm up` shows to a new user."""

from __future__ import annotations

from pathlib import Path

from app.cli.up import banner
from app.local.farm import Access

ACCESS = Access(
    url="http://127.0.0.1:8000",
    api_key="rf_key",
    flower_url="http://127.0.0.1:5555",
    flower_user="farm",
    flower_password="word",
    database_url="postgresql://renderfarm:hidden@127.0.0.1:1/renderfarm",
    broker_url="redis://:hidden@127.0.0.1:2/0",
)


def test_tells_all_that_is_needed() -> None:
    """The banner has address, key, Flower's password and documentation, and no other secret."""
    said = banner(ACCESS, Path.cwd() / "var")
    for fact in ("export RENDERFARM_URL=http://127.0.0.1:8000", "export RENDERFARM_API_KEY=rf_key"):
        assert fact in said
    assert "user farm, password word" in said
    assert "http://127.0.0.1:8000/docs" in said
    assert "hidden" not in said


def test_a_farm_elsewhere_can_be_found(tmp_path: Path) -> None:
    """For a farm that is not in ./var, the command in the banner names its directory."""
    assert "RENDERFARM_DIR" not in banner(ACCESS, Path.cwd() / "var")
    assert f"RENDERFARM_DIR={tmp_path} " in banner(ACCESS, tmp_path)
