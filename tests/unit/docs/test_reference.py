"""The generated reference pages are those that the code gives now."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from app.catalog.load import load_catalog
from app.config.repository import REPOSITORY
from docs.generate.pages import FOLDER, PAGES
from docs.generate.settings import FOREIGN, OTHERS

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ("app", "workers", "renderfarm", "queues", "bin")
NOT_FOR_USERS = {"RENDERFARM_"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_gives_it(name: str) -> None:
    """Each page equals its generator's text: after a change of the code, run `make reference`."""
    assert (FOLDER / name).read_text() == PAGES[name]()


def test_every_variable_in_the_code_is_on_the_page() -> None:
    """The page on settings has each RENDERFARM_ variable that any program of the farm names."""
    page = (FOLDER / "settings.md").read_text()
    texts = [file.read_text() for source in SOURCES for file in (REPOSITORY / source).rglob("*.py")]
    names = {name for text in texts for name in re.findall(r"RENDERFARM_[A-Z0-9_]*", text)}
    missing = {name for name in names - NOT_FOR_USERS if f"`{name}`" not in page}
    assert missing == set()
    assert all(name in page for name, *_ in (*OTHERS, *FOREIGN))


def test_the_example_of_an_entry_is_valid(tmp_path: Path) -> None:
    """The registry that the page shows loads once its folders exist."""
    page = (FOLDER / "registry.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (name,) = tomllib.loads(shown)
    files = (f"{name}/model_index.json", f"{name}-ink/pytorch_lora_weights.safetensors")
    for file in files:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("{}")
    (tmp_path / "models.toml").write_text(shown)
    assert load_catalog(tmp_path / "models.toml", revised=False).default == name
