"""The text side: a tokenizer for the vocabulary, and a small CLIP text encoder.

The encoder is trained on its own: linear heads must read every attribute of the scene from its last
hidden states. It is then frozen, so the denoiser learns with fixed words.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from models.scenes.captions import caption
from models.scenes.scene import (
    BACKDROPS,
    COLOURS,
    MOTIFS,
    PLACES,
    RELATIONS,
    SHAPES,
    Scene,
    sample_scene,
)

LENGTH = 32
"""Tokens in a prompt, including both ends."""
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """Byte-pair encoding, trained until every word of the captions is one token."""
    rng = random.Random(seed)
    text = " ".join(caption(sample_scene(rng), rng) for _ in range(20_000))
    merges = _merges(Counter(text.replace(",", " ").split()))
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges] + [START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocabulary, merges, model_max_length=LENGTH)


def _merges(words: Counter[str]) -> list[tuple[str, str]]:
    split = {word: [*word[:-1], word[-1] + "</w>"] for word in sorted(words)}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in split.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            return merges
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        split = {word: _joined(parts, best) for word, parts in split.items()}


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def build_encoder(tokenizer: CLIPTokenizer, width: int = 128, layers: int = 4) -> CLIPTextModel:
    """Return an untrained text encoder for the tokenizer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            max_position_embeddings=LENGTH,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return token ids (n, 32), like the stock pipelines make them."""
    ids = tokenizer(captions, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    return torch.tensor(ids)


_COLOURS, _SHAPES = ("", *COLOURS), ("", *SHAPES)
_SIDES = ("left", "right", "top", "bottom", "inner", "outer")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour 0": _COLOURS,
    "shape 0": _SHAPES,
    "colour 1": _COLOURS,
    "shape 1": _SHAPES,
    "count": ("0", "1", "2", "3", "4"),
    "size": ("", "small", "large"),
    "place": ("", *PLACES),
    "relation": ("", "and", *RELATIONS),
    "backdrop": BACKDROPS,
    "backdrop 0": _COLOURS,
    "backdrop 1": _COLOURS,
    "motif": ("", *MOTIFS),
    "motif 0": _COLOURS,
    "motif 1": _COLOURS,
    "extras": ("", "sun", "tree", "sun tree", "sad"),
    **{f"{side} colour": _COLOURS for side in _SIDES},
    **{f"{side} shape": _SHAPES for side in _SIDES},
}
"""The attributes that the heads read, and their possible answers."""


def attributes(scene: Scene) -> dict[str, str]:
    """Return the scene's answer to each of `ATTRIBUTES`; empty for what is not named."""
    found = {
        "count": str(scene.groups[0].count if scene.groups else 0),
        "backdrop": scene.backdrop.kind,
        "motif": scene.motif,
        "extras": " ".join(scene.extras),
    }
    for index, group in enumerate(scene.groups):
        found |= {f"colour {index}": group.colour, f"shape {index}": group.shape}
        found |= {"size": group.size, "place": group.place}
    for index, colour in enumerate(scene.backdrop.colours):
        found[f"backdrop {index}"] = colour
    for index, colour in enumerate(scene.motif_colours):
        found[f"motif {index}"] = colour
    return found | _related(scene)


def _related(scene: Scene) -> dict[str, str]:
    if len(scene.groups) < 2:
        return {}
    sides = {
        "left of": ("left", "right"),
        "right of": ("right", "left"),
        "above": ("top", "bottom"),
        "below": ("bottom", "top"),
        "inside": ("inner", "outer"),
    }.get(scene.relation)
    if sides is None:
        return {"relation": "and"}
    found = {"relation": scene.relation}
    for side, group in zip(sides, scene.groups, strict=True):
        found |= {f"{side} colour": group.colour, f"{side} shape": group.shape}
    return found


class Heads(nn.Module):
    """One linear reader per attribute, used only while the encoder trains."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(answers) for answers in ATTRIBUTES.values()]
        self.read = nn.Linear(width, sum(self.sizes))

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        """Return the logits (n, answers) of every attribute, from states (n, width)."""
        return torch.split(self.read(states), self.sizes, dim=-1)


def targets(scenes: list[Scene]) -> Tensor:
    """Return the index of each attribute's answer, (attributes, n)."""
    found = [attributes(scene) for scene in scenes]
    rows = [
        [answers.index(each.get(name, "")) for each in found]
        for name, answers in ATTRIBUTES.items()
    ]
    return torch.tensor(rows)
