"""What a running worker says that it draws with."""

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


def asked(*loras: str) -> dict[str, Any]:
    """A stored request."""
    return {"model": "scenes", "loras": [{"name": name, "scale": 1.0} for name in loras]}


@pytest.fixture
def found(tmp_path: Path) -> Revisions:
    """A worker that found two LoRAs when it started."""
    for name in ("ink", "pen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / LORA_FILE).write_text("as it was")
    loras = {name: tmp_path / name for name in ("ink", "pen")}
    return Revisions({"scenes": replace(MODEL, loras=loras)})


def _rewrite(file: Path) -> None:
    file.write_text("another")


def _replace(file: Path) -> None:
    about, new = file.stat(), file.with_suffix(".new")
    new.write_text("as it is.")
    os.utime(new, ns=(about.st_atime_ns, about.st_mtime_ns))
    new.replace(file)


@pytest.mark.parametrize("exchange", [_rewrite, _replace, os.unlink])
def test_an_exchanged_lora_is_another_revision(
    found: Revisions, tmp_path: Path, exchange: Callable[[Path], None]
) -> None:
    """Pictures that wear it belong to no revision from then on; those that do not, as before."""
    assert found.of(asked("ink")) == "r1"
    exchange(tmp_path / "ink" / LORA_FILE)
    assert found.of(asked("pen", "ink")) == "r1+changed"
    assert (found.of(asked("pen")), found.of(asked())) == ("r1", "r1")


def test_what_it_does_not_know_is_nobodys_revision(found: Revisions) -> None:
    """Another worker's model has none here; a LoRA that is not there fails in the engine."""
    assert found.of({"model": "other"}) is None
    assert found.of(asked("brush")) == "r1"
    assert found.of({"model": "scenes"}) == "r1", "as older versions stored requests"
