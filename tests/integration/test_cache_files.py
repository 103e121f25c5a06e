"""The result cache when a model's files are replaced: no request gets an old picture."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.catalog.load import load_catalog
from app.catalog.revision import LORA_FILE
from app.jobs.accept import AcceptContext, Submission, accept
from app.jobs.request import JobRequest
from tests.integration.slot_bench import Bench, picture
from tests.waiting import PATIENCE_S
from workers.images.revisions import Revisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from app.catalog.entries import Catalog
    from app.jobs.records import Row
    from tests.integration.records import FarmDatabase

ENTRY = """
[null]
pipeline = "null"
[null.loras]
ink = "ink"
[null.controlnets]
lines = "lines"
[null.speed]
decoder = "small"
"""
FILES = (
    f"ink/{LORA_FILE}",
    "ink/README.md",
    "lines/config.json",
    "lines/diffusion_pytorch_model.safetensors",
    "small/config.json",
    "small/diffusion_pytorch_model.safetensors",
)


class Studio:
    """One farm: `door` and `bench` are processes that keep the files of their start."""

    def __init__(self, farm: FarmDatabase, folder: Path) -> None:
        self.farm = farm
        self.folder = folder
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("{}")
        (folder / "models.toml").write_text(ENTRY)
        self.bench = Bench(farm, folder)
        self.start()

    def start(self) -> None:
        """Start door and worker, or restart them."""
        catalog: Catalog = load_catalog(self.folder / "models.toml", frozenset({"null"}))
        self.door = AcceptContext(self.farm.store, catalog)
        self.slot = replace(self.bench.slot, revision=Revisions(catalog.models).of)
        self.bench.slot = self.slot

    def submit(self) -> Row:
        """Ask for the one picture."""
        asked = JobRequest.model_validate(
            {"prompt": "a", "seed": 7, "loras": [{"name": "ink", "scale": 1.0}]}
        )
        return accept(self.door, self.farm.tenant, [Submission(asked)])[0].row

    def draw(self, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Have it drawn; the revision that the engine was told."""
        row = self.submit()
        assert row["status"] == "queued"
        answer = self.bench.begin(row["id"])
        meanwhile()
        name = f"{row['id']}.1"
        told = self.bench.device.here[name].revision
        self.bench.device.end(name, picture)
        assert answer.result(PATIENCE_S).startswith("succeeded")
        return told


@pytest.fixture
def studio(farm: FarmDatabase, tmp_path: Path) -> Iterator[Studio]:
    """A farm with one model; afterwards the records hold every invariant."""
    made = Studio(farm, tmp_path)
    yield made
    made.bench.close()
    assert farm.breaches() == []


@pytest.mark.parametrize("name", [name for name in FILES if "README" not in name])
def test_a_file_that_was_exchanged_is_drawn_with(studio: Studio, name: str) -> None:
    """After the next start the new LoRA, ControlNet and decoder are used, and cached."""
    first = studio.draw()
    assert studio.submit()["cached"]
    (studio.folder / name).write_text("[]")
    studio.start()
    assert studio.draw() != first
    assert studio.submit()["cached"]


def test_another_dtype_draws_anew(studio: Studio) -> None:
    """The same weights in another number format are other pictures."""
    studio.draw()
    (studio.folder / "models.toml").write_text(ENTRY + 'dtype = "bfloat16"\n')
    studio.start()
    studio.draw()


def test_files_that_are_only_touched_draw_nothing(studio: Studio) -> None:
    """Dates, papers and settings that move no pixel leave the pictures good."""
    studio.draw()
    for name in FILES:
        os.utime(studio.folder / name, (1, 1))
    (studio.folder / "ink" / "README.md").write_text("about")
    (studio.folder / "models.toml").write_text(ENTRY + "loras_kept = 3\n")
    studio.start()
    assert studio.submit()["cached"]


def test_a_lora_that_is_exchanged_under_a_worker_answers_nobody(studio: Studio) -> None:
    """Which of the two files drew the picture is not known.

    Neither revision is answered with it.
    """
    ink = studio.folder / "ink" / LORA_FILE
    studio.draw(lambda: ink.write_text("another"))
    assert studio.submit()["status"] == "queued"
    studio.start()
    assert studio.submit()["status"] == "queued"


def test_a_door_that_has_not_started_anew_answers_as_before(studio: Studio) -> None:
    """While the processes start one after the other, each door goes by the files that it found."""
    studio.draw()
    old = studio.door
    (studio.folder / "ink" / LORA_FILE).write_text("another")
    studio.start()
    new, studio.door = studio.door, old
    assert studio.submit()["cached"]
    studio.door = new
    assert studio.submit()["status"] == "queued"
