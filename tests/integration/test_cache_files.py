"""The result cache after files of a model were replaced: old pictures are not returned."""

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
    """One farm; `context` (the API) and `bench` (a worker) know the files as of their start."""

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
        """Start, or restart, the API and the worker."""
        catalog: Catalog = load_catalog(self.folder / "models.toml", frozenset({"null"}))
        self.context = AcceptContext(self.farm.store, catalog)
        self.slot = replace(self.bench.slot, revision=Revisions(catalog.models).of)
        self.bench.slot = self.slot

    def submit(self) -> Row:
        """Submit the request."""
        request = JobRequest.model_validate(
            {"prompt": "a", "seed": 7, "loras": [{"name": "ink", "scale": 1.0}]}
        )
        return accept(self.context, self.farm.tenant, [Submission(request)])[0].row

    def render(self, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Submit the request and render it; return the revision that the engine received."""
        row = self.submit()
        assert row["status"] == "queued"
        answer = self.bench.begin(row["id"])
        meanwhile()
        name = f"{row['id']}.1"
        revision = self.bench.device.jobs[name].revision
        self.bench.device.end(name, picture)
        assert answer.result(PATIENCE_S).startswith("succeeded")
        return revision


@pytest.fixture
def studio(farm: FarmDatabase, tmp_path: Path) -> Iterator[Studio]:
    """A farm with one model; after the test the database holds every invariant."""
    studio = Studio(farm, tmp_path)
    yield studio
    studio.bench.close()
    assert farm.breaches() == []


@pytest.mark.parametrize("name", [name for name in FILES if "README" not in name])
def test_a_replaced_file_is_rendered_with(studio: Studio, name: str) -> None:
    """After a restart with a new LoRA, ControlNet or decoder the job renders and is cached."""
    first = studio.render()
    assert studio.submit()["cached"]
    (studio.folder / name).write_text("[]")
    studio.start()
    assert studio.render() != first
    assert studio.submit()["cached"]


def test_another_dtype_is_rendered(studio: Studio) -> None:
    """The same weights in another number format give other pictures."""
    studio.render()
    (studio.folder / "models.toml").write_text(ENTRY + 'dtype = "bfloat16"\n')
    studio.start()
    studio.render()


def test_irrelevant_changes_keep_the_cache(studio: Studio) -> None:
    """File dates, documents and settings that change no pixel keep the cached pictures."""
    studio.render()
    for name in FILES:
        os.utime(studio.folder / name, (1, 1))
    (studio.folder / "ink" / "README.md").write_text("about")
    (studio.folder / "models.toml").write_text(ENTRY + "loras_kept = 3\n")
    studio.start()
    assert studio.submit()["cached"]


def test_a_lora_that_is_replaced_under_a_running_worker_is_not_cached(studio: Studio) -> None:
    """It is unknown which file rendered the picture, so neither revision returns it."""
    ink = studio.folder / "ink" / LORA_FILE
    studio.render(lambda: ink.write_text("another"))
    assert studio.submit()["status"] == "queued"
    studio.start()
    assert studio.submit()["status"] == "queued"


def test_an_api_that_has_not_restarted_answers_as_before(studio: Studio) -> None:
    """During a rolling restart each API process uses the files of its own start."""
    studio.render()
    old = studio.context
    (studio.folder / "ink" / LORA_FILE).write_text("another")
    studio.start()
    new, studio.context = studio.context, old
    assert studio.submit()["cached"]
    studio.context = new
    assert studio.submit()["status"] == "queued"
