"""The tokenizer knows the vocabulary, and the heads' answers describe the scene."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from models.scenes.captions import caption
from models.scenes.scene import Backdrop, Group, Scene, sample_scene
from models.scenes.words import (
    ATTRIBUTES,
    LENGTH,
    attributes,
    build_encoder,
    build_tokenizer,
    encode,
    targets,
)

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    """The tokenizer, made once."""
    return build_tokenizer()


def test_words_are_single_tokens(tokenizer: CLIPTokenizer) -> None:
    """Every word of a caption is one token, so colours and shapes are not spelled out."""
    prompt = "two violet rhombuses to the left of a checkered turquoise hoop"
    assert tokenizer.tokenize(prompt) == [f"{word}</w>" for word in prompt.split()]


def test_any_text_is_accepted(tokenizer: CLIPTokenizer) -> None:
    """Unknown words, other scripts and endless prompts give a row of the fixed length."""
    for text in ("", "xylophone", "красный круг", "red " * 500):
        assert encode(tokenizer, [text]).shape == (1, LENGTH)


def test_captions_fit(tokenizer: CLIPTokenizer) -> None:
    """No caption is cut off."""
    rng = random.Random(6)
    ids = encode(tokenizer, [caption(sample_scene(rng), rng) for _ in range(500)])
    assert (ids[:, -1] == tokenizer.eos_token_id).all()


def test_the_encoder_gives_a_state_per_token(tokenizer: CLIPTokenizer) -> None:
    """Hidden states are (n, 32, 128), as the denoiser expects."""
    states = build_encoder(tokenizer)(encode(tokenizer, ["a red circle"])).last_hidden_state
    assert states.shape == (1, LENGTH, 128)


def test_relations_are_told_by_side() -> None:
    """Which thing is on which side is an answer of its own, whatever the order of naming."""
    star, dot = Group("red", "star"), Group("blue", "circle")
    white = Backdrop("plain", ("white",))
    said = attributes(Scene(white, (star, dot), "left of"))
    turned = attributes(Scene(white, (dot, star), "right of"))
    for side in ("left colour", "left shape", "right colour", "right shape"):
        assert said[side] == turned[side]


def test_every_scene_has_an_answer_to_every_attribute() -> None:
    """Targets exist for scenes of all kinds."""
    rng = random.Random(7)
    assert targets([sample_scene(rng) for _ in range(300)]).shape == (len(ATTRIBUTES), 300)
