"""The cache: equal encoder calls are answered, within a limit of bytes."""

from __future__ import annotations

import torch

from workers.engine.encoder_cache import EncoderCache
from workers.engine.rows import Call, ModuleMethod

ENCODER = ModuleMethod.of("model.encoder", "encoder", lambda tokens: tokens)
DENOISER = ModuleMethod.of("model.denoiser", "denoiser", lambda sample: sample)
ROW = torch.zeros(1, 4)  # 16 bytes


def call(token: int, method: ModuleMethod = ENCODER) -> Call:
    """Encode one token."""
    return Call.bind(method, (torch.tensor([[token]]),), {})


def test_equal_tokens_are_known_and_others_are_not() -> None:
    """The key is the values, not the tensor that holds them."""
    cache = EncoderCache()
    cache.put(call(1), (ROW + 1,))
    assert torch.equal(cache.get(call(1))[0], ROW + 1)
    assert cache.get(call(2)) is None


def test_denoising_is_never_remembered() -> None:
    """Only encoders repeat themselves."""
    cache = EncoderCache()
    cache.put(call(1, DENOISER), ROW)
    assert cache.get(call(1, DENOISER)) is None


def test_an_answer_is_a_copy() -> None:
    """A job that edits its embeddings does not edit those of the next."""
    cache = EncoderCache()
    cache.put(call(1), ROW)
    cache.get(call(1)).fill_(9)
    assert torch.equal(cache.get(call(1)), ROW)


def test_the_least_recently_used_leaves_first() -> None:
    """Over the limit, what was asked for last stays."""
    cache = EncoderCache(limit_bytes=32)
    cache.put(call(1), ROW)
    cache.put(call(2), ROW)
    cache.get(call(1))
    cache.put(call(3), ROW)
    known = [token for token in (1, 2, 3) if cache.get(call(token)) is not None]
    assert known == [1, 3]


def test_a_memo_of_no_size_remembers_nothing() -> None:
    """0 bytes switch it off."""
    cache = EncoderCache(limit_bytes=0)
    cache.put(call(1), ROW)
    assert cache.get(call(1)) is None


def test_a_result_beyond_the_limit_is_not_kept() -> None:
    """One huge result does not push out everything else."""
    cache = EncoderCache(limit_bytes=32)
    cache.put(call(1), ROW)
    cache.put(call(2), torch.zeros(9, 4))
    assert cache.get(call(2)) is None
    assert cache.get(call(1)) is not None


def test_the_same_result_twice_counts_once() -> None:
    """Two jobs with one text in one forward do not fill the cache twice."""
    cache = EncoderCache(limit_bytes=32)
    cache.put(call(1), ROW)
    cache.put(call(2), ROW)
    cache.put(call(2), ROW)
    assert cache.get(call(1)) is not None
