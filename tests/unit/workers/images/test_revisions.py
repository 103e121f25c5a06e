"""The revision of the files that a running worker renders with."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.catalog.entries import Model
from app.catalog.revision import LORA_FILE
from workers.images.revisions import Revisions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = Model("scenes", "diffusers", None, "", "r1", 0.0, ("euler",))


def request(*loras: str) -> dict[str, Any]:
    """Build a stored request with these LoRAs."""
    return {"model": "scenes", "loras": [{"name": name, "scale": 1.0} for name in loras]}


@pytest.fixture
def revisions(tmp_path: Path) -> Revisions:
    """The revisions of a worker that had two LoRAs when it started."""
    for name in ("ink", "pen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / LORA_FILE).write_text("original.")
    loras = {name: tmp_path / name for name in ("ink", "pen")}
    return Revisions({"scenes": replace(MODEL, loras=loras)})


def _rewrite(file: Path) -> None:
    file.write_text("another")


def _replace(file: Path) -> None:
    status, new = file.stat(), file.with_suffix(".new")
    new.write_text("replaced.")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(file)


@pytest.mark.parametrize("exchange", [_rewrite, _replace, os.unlink])
def test_a_replaced_lora_changes_the_revision(
    revisions: Revisions, tmp_path: Path, exchange: Callable[[Path], None]
) -> None:
    """Requests with the LoRA get a revision that matches no picture; other requests keep theirs."""
    assert revisions.of(request("ink")) == "r1"
    exchange(tmp_path / "ink" / LORA_FILE)
    assert revisions.of(request("pen", "ink")) == "r1+changed"
    assert (revisions.of(request("pen")), revisions.of(request())) == ("r1", "r1")


def test_unknown_models_and_loras(revisions: Revisions) -> None:
    """A model of another worker has no revision; an unknown LoRA does not change one."""
    assert revisions.of({"model": "other"}) is None
    assert revisions.of(request("brush")) == "r1"
    assert revisions.of({"model": "scenes"}) == "r1", "as older versions stored requests"
