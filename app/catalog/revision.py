"""A model's revision: a short content hash (fingerprint) of everything that its images depend on.

Only contents count. Machines with the same files and the same entry in `models.toml` compute the
same revision, whatever the dates and places of the files.
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
"""The only file of a LoRA's folder that is read."""
READ = frozenset({".bin", ".json", ".model", ".safetensors", ".txt"})
"""Suffixes of the files that are read in other folders: weights, configurations, vocabularies."""
NO_EFFECT = frozenset({"decoder", "loras_kept", "prompt_cache_mb"})
"""Settings of `speed` that change no pixel. The files of `decoder` count, but not their place."""
PLAIN = {
    "dtype": "float32",
    "channels_last": False,
    "compile": "",
    "graphs": False,
    "attention": "",
    "vae_tiling": False,
}
"""Settings that do not change a revision. They are repeated here, so that a new default in `Speed`
gives models a new revision."""
DIGITS = 12


def revision(model: Model) -> str:
    """Hash a model's folder, LoRAs, ControlNets, decoder and speed: 12 digits of a SHA-256.

    A model with none of the extras and plain speed settings has the revision of its folder. Reads
    every file once; raises `OSError`.
    """
    digest = _folder(model.path) if model.path else hashlib.sha256()
    extras = {
        "speed": _effective(model.speed),
        "decoder": _folder(model.decoder).hexdigest() if model.decoder else None,
        "loras": {name: _file(at / LORA_FILE).hex() for name, at in model.loras.items()},
        "controlnets": {name: _folder(at).hexdigest() for name, at in model.controlnets.items()},
    }
    if present := {name: value for name, value in extras.items() if value}:
        digest.update(json.dumps(present, sort_keys=True).encode())
    return digest.hexdigest()[:DIGITS]


def _effective(speed: Speed) -> dict[str, object]:
    """The settings that may change a pixel and differ from the plain ones."""
    chosen = {name: value for name, value in asdict(speed).items() if name not in NO_EFFECT}
    return {n: value for n, value in chosen.items() if n not in PLAIN or value != PLAIN[n]}


def _folder(folder: Path) -> hashlib._Hash:
    """SHA-256 over the names and contents of the files that are read in a folder."""
    digest = hashlib.sha256()
    for file in _files(folder):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(_file(file))
    return digest


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files that are read, by name. Links are followed, because models share parts by links."""
    within = (*above, folder.resolve())
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.resolve() not in within:
                yield from _files(entry, within)
        elif entry.suffix in READ and entry.is_file():
            yield entry


def _file(file: Path) -> bytes:
    with file.open("rb") as content:  # weights may be larger than memory
        return hashlib.file_digest(content, "sha256").digest()
