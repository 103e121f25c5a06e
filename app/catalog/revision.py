"""A model's revision: a short name for all that its pictures are made from.

Contents count, and neither dates nor places: machines with the same files and the same entry in
`models.toml` agree on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.catalog.entries import Model, Speed

LORA_FILE = "pytorch_lora_weights.safetensors"
"""The one file of a LoRA's folder that is read."""
READ = frozenset({".bin", ".json", ".model", ".safetensors", ".txt"})
"""How the names end of what is read of the other folders: weights, configurations, vocabularies."""
UNSEEN = frozenset({"decoder", "loras_kept", "prompt_cache_mb"})
"""Settings of `speed` that move no pixel; of `decoder` the files count, not where they are."""
PLAIN = {
    "dtype": "float32",
    "channels_last": False,
    "compile": "",
    "graphs": False,
    "attention": "",
    "vae_tiling": False,
}
"""How a model is run that says nothing. Written out here, so that another default is another revision."""
DIGITS = 12


def revision(model: Model) -> str:
    """Hash a model's folder, LoRAs, ControlNets, decoder and speed: 12 hexadecimal digits.

    A model without extras that is run plainly has the revision of its folder. Reads every file once;
    raises `OSError`.
    """
    digest = _folder(model.path) if model.path else hashlib.sha256()
    extras = {
        "speed": _visible(model.speed),
        "decoder": _folder(model.decoder).hexdigest() if model.decoder else None,
        "loras": {name: _file(at / LORA_FILE).hex() for name, at in model.loras.items()},
        "controlnets": {name: _folder(at).hexdigest() for name, at in model.controlnets.items()},
    }
    if said := {name: value for name, value in extras.items() if value}:
        digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()[:DIGITS]


def _visible(speed: Speed) -> dict[str, object]:
    """The settings that may move a pixel, where they are not the plain ones."""
    chosen = {name: value for name, value in asdict(speed).items() if name not in UNSEEN}
    return {n: value for n, value in chosen.items() if n not in PLAIN or value != PLAIN[n]}


def _folder(folder: Path) -> hashlib._Hash:
    """SHA-256 over the names and contents of what is read of a folder."""
    digest = hashlib.sha256()
    for file in _files(folder):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(_file(file))
    return digest


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """What is read, in the order of the names, links followed: models share their parts by links."""
    within = (*above, folder.resolve())
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.resolve() not in within:
                yield from _files(entry, within)
        elif entry.suffix in READ and entry.is_file():
            yield entry


def _file(file: Path) -> bytes:
    with file.open("rb") as content:  # weights are larger than memory has room for
        return hashlib.file_digest(content, "sha256").digest()
