"""Changes that give a model another revision, and changes that do not."""

from __future__ import annotations

import os
import shutil
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from app.catalog.entries import Speed
from app.catalog.load import load_catalog
from app.catalog.revision import LORA_FILE, NO_EFFECT, PLAIN
from app.errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = """
[real]
path = "real"
[real.loras]
ink = "ink"
[real.controlnets]
lines = "lines"
[real.speed]
decoder = "small"
"""
FILES = {
    "real/model_index.json": "{}",
    "real/README.md": "about",
    "real/tokenizer/merges.txt": "a b",
    "real/tokenizer/spiece.model": "pieces",
    "real/unet/diffusion_pytorch_model.safetensors": "weights",
    "real/text_encoder/pytorch_model.bin": "older weights",
    f"ink/{LORA_FILE}": "lora",
    "ink/README.md": "about",
    "lines/config.json": "{}",
    "lines/diffusion_pytorch_model.safetensors": "net",
    "small/config.json": "{}",
    "small/diffusion_pytorch_model.safetensors": "decoder",
    "small/README.md": "about",
}
WEIGHTLESS = tuple(name for name in FILES if name.endswith("README.md"))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A folder with a model that has each kind of extra."""
    return write(tmp_path / "registry")


def write(folder: Path) -> Path:
    """Write the model's files."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def revision(folder: Path, entry: str = ENTRY) -> str:
    """The revision of the entry, as a new process computes it."""
    (folder / "models.toml").write_text(entry)
    return load_catalog(folder / "models.toml").models["real"].revision


@pytest.mark.parametrize("name", [name for name in FILES if name not in WEIGHTLESS])
def test_every_file_that_is_read_counts(registry: Path, name: str) -> None:
    """Another byte in weights, LoRA, ControlNet or decoder gives another revision."""
    before = revision(registry)
    (registry / name).write_text(FILES[name].swapcase() + " ")
    assert revision(registry) != before
    (registry / name).write_text(FILES[name])
    assert revision(registry) == before


@pytest.mark.parametrize(
    "change",
    [
        'dtype = "bfloat16"',
        "channels_last = true",
        'compile = "blocks"',
        'compile = "whole"',
        'attention = "native"',
        "vae_tiling = true",
    ],
)
def test_speed_that_changes_pixels_counts(registry: Path, change: str) -> None:
    """Each speed setting that may change a pixel gives another revision."""
    assert revision(registry, ENTRY + change) != revision(registry)


@pytest.mark.parametrize(
    "change",
    ["", 'dtype = "float32"', "vae_tiling = false", "prompt_cache_mb = 1", "loras_kept = 1"],
)
def test_settings_that_change_no_pixel_do_not_count(registry: Path, change: str) -> None:
    """Explicit plain settings, sizes of caches, defaults and limits do not change the revision."""
    more = "\n[real.defaults]\nwidth = 64\n[real.limits]\nmax_steps = 50\n"
    assert revision(registry, ENTRY + change + more) == revision(registry)


def test_dates_places_and_other_files_do_not_count(registry: Path, tmp_path: Path) -> None:
    """A machine with the same files in another place, with other files next to them, agrees."""
    before = revision(registry)
    other = write(tmp_path / "other")
    for name in FILES:
        os.utime(other / name, (1, 1))
    for name in WEIGHTLESS:
        (other / name).write_text("something else")
    (other / "ink" / "older_pytorch_lora_weights.safetensors").write_text("not read")
    (other / "small").rename(other / "tiny")
    assert revision(other, ENTRY.replace("small", "tiny")) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('ink = "ink"', ""),
        ('ink = "ink"', 'pen = "ink"'),
        ('ink = "ink"', 'ink = "ink"\npen = "ink"'),
        ('lines = "lines"', ""),
        ('decoder = "small"', ""),
        ('decoder = "small"', 'decoder = "lines"'),
    ],
)
def test_which_extra_has_which_name_counts(registry: Path, old: str, new: str) -> None:
    """The names of LoRAs and ControlNets count, because requests use them."""
    assert revision(registry, ENTRY.replace(old, new)) != revision(registry)


def test_the_order_of_loras_does_not_count(registry: Path) -> None:
    """The order of lines in `models.toml` does not change the revision."""
    shutil.copytree(registry / "ink", registry / "pen")
    one, other = 'ink = "ink"\npen = "pen"', 'pen = "pen"\nink = "ink"'
    found = {revision(registry, ENTRY.replace('ink = "ink"', text)) for text in (one, other)}
    assert len(found) == 1


def test_a_linked_part_counts(registry: Path) -> None:
    """A part behind a link counts; a link to a parent folder is followed once."""
    part = registry / "real" / "text_encoder"
    part.rename(registry / "shared")
    part.symlink_to(registry / "shared")
    (registry / "real" / "loop").symlink_to(registry / "real")
    before = revision(registry)
    (registry / "shared" / "pytorch_model.bin").write_text("others")
    assert revision(registry) != before


def test_a_plain_model_has_the_revision_of_its_folder(registry: Path) -> None:
    """A model without extras has its folder's revision, so extras of others do not change it."""
    plain = revision(registry, '[real]\npath = "real"\n')
    assert revision(registry, '[real]\npath = "real"\n[real.speed]\ndtype = "float32"\n') == plain
    assert revision(registry) != plain


def test_every_speed_setting_is_classified() -> None:
    """Every setting of `Speed` is in one of the two lists."""
    assert {field.name for field in fields(Speed)} == PLAIN.keys() | NO_EFFECT
    assert not PLAIN.keys() & NO_EFFECT


def test_a_file_that_cannot_be_read_stops_the_start(registry: Path) -> None:
    """An unreadable file is an error that names the entry."""
    (registry / "lines" / "broken.safetensors").symlink_to("/proc/self/mem")
    with pytest.raises(CatalogError, match=r"\[real\].*cannot be read"):
        revision(registry)


@pytest.mark.parametrize(
    ("entry", "pinned"),
    [
        ('[real]\npath = "real"\n', "c07f19565472"),
        (ENTRY, "e7dacddf825c"),
        (ENTRY + "compile = true\nprompt_cache_mb = 1\n", "1d8699c9362b"),
        (
            ENTRY + 'dtype = "bfloat16"\ncompile = "whole"\nattention = "native"\n',
            "e3629d6da155",
        ),
    ],
)
def test_the_revision_of_an_entry_stays(registry: Path, entry: str, pinned: str) -> None:
    """The same files and entry have this revision in every version of the farm, for its caches."""
    assert revision(registry, entry) == pinned
