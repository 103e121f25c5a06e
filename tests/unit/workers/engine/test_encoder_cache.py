"""EncoderCache: it answers equal encoder calls, within a limit of bytes."""

from __future__ import annotations

import torch

from workers.engine.encoder_cache import EncoderCache
from workers.engine.rows import Call, ModuleMethod

ENCODER = ModuleMethod.of("model.encoder", "encoder", lambda tokens: tokens)
DENOISER = ModuleMethod.of("model.denoiser", "denoiser", lambda sample: sample)
ROW = torch.zeros(1, 4)  # 16 bytes


def call(token: int, method: ModuleMethod = ENCODER) -> Call:
    """Return a call for one token."""
    return Call.bind(method, (torch.tensor([[token]]),), {})


def test_equal_tokens_hit_and_others_miss() -> None:
    """The key is the values, not the tensor object."""
    cache = EncoderCache()
    cache.put(call(1), (ROW + 1,))
    assert torch.equal(cache.get(call(1))[0], ROW + 1)
    assert cache.get(call(2)) is None


def test_denoiser_calls_are_not_cached() -> None:
    """Only encoder calls repeat."""
    cache = EncoderCache()
    cache.put(call(1, DENOISER), ROW)
    assert cache.get(call(1, DENOISER)) is None


def test_an_answer_is_a_copy() -> None:
    """A job that edits its embeddings does not change those of the next job."""
    cache = EncoderCache()
    cache.put(call(1), ROW)
    cache.get(call(1)).fill_(9)
    assert torch.equal(cache.get(call(1)), ROW)


def test_the_least_recently_used_leaves_first() -> None:
    """Over the limit, the most recently used results stay."""
    cache = EncoderCache(limit_bytes=32)
    cache.put(call(1), ROW)
    cache.put(call(2), ROW)
    cache.get(call(1))
    cache.put(call(3), ROW)
    known = [token for token in (1, 2, 3) if cache.get(call(token)) is not None]
    assert known == [1, 3]


def test_a_limit_of_0_switches_the_cache_off() -> None:
    """With 0 bytes no result is kept."""
    cache = EncoderCache(limit_bytes=0)
    cache.put(call(1), ROW)
    assert cache.get(call(1)) is None


def test_a_result_larger_than_the_limit_is_not_kept() -> None:
    """A huge result does not evict all others."""
    cache = EncoderCache(limit_bytes=32)
    cache.put(call(1), ROW)
    cache.put(call(2), torch.zeros(9, 4))
    assert cache.get(call(2)) is None
    assert cache.get(call(1)) is not None


def test_the_same_result_twice_counts_once() -> None:
    """Two jobs with equal texts in one forward do not fill the cache twice."""
    cache = EncoderCache(limit_bytes=32)
    cache.put(call(1), ROW)
    cache.put(call(2), ROW)
    cache.put(call(2), ROW)
    assert cache.get(call(1)) is not None
