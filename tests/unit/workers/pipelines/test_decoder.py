"""SmallDecoder: it decodes instead of a model's own autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    finished,
    picture,
    request,
    run_until_idle,
)
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import EngineError, Finished
from workers.pipelines import loading
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from pathlib import Path


def tiny(channels: int, **settings: Any) -> diffusers.AutoencoderTiny:
    """Return a small autoencoder with random weights and 2 x 2 pixels per latent."""
    torch.manual_seed(9)
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=channels,
        **settings,
    )


@pytest.mark.parametrize(("family", "channels"), [("sd", 4), ("sdxl", 4), ("sd3", 16), ("flux", 4)])
def test_pictures_are_those_of_the_small_decoder(
    family: str, channels: int, tmp_path: Path
) -> None:
    """Loaded from a folder and batched, it decodes the latents of the stock pipeline."""
    stock, small = FAMILIES[family](), tiny(channels)
    stock.save_pretrained(tmp_path / "model")
    small.save_pretrained(tmp_path / "decoder")
    model = loading.load(tmp_path / "model", name=family, decoder=tmp_path / "decoder")
    engine = engine_of({family: model})
    asked = [request(str(seed), family, seed=seed) for seed in (7, 8)]
    for one in asked:
        engine.add(one)
    outcomes = run_until_idle(engine)
    assert engine.stats.rows["decoder"] == 2 > engine.stats.forwards["decoder"]
    stock.set_progress_bar_config(disable=True)
    negative = {} if family == "flux" else {"negative_prompt": None}
    for one in asked:
        latents = stock(
            prompt=one.prompt, num_inference_steps=4, guidance_scale=4.0, width=16, height=16,
            generator=torch.Generator("cpu").manual_seed(one.seed), output_type="latent", **negative,
        ).images  # fmt: skip
        if family == "flux":
            latents = stock._unpack_latents(latents, 16, 16, stock.vae_scale_factor)
        with torch.no_grad():
            pixels = small.decode(latents).sample[0].movedim(0, -1)
        expected = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().numpy()
        assert distance(outcomes[one.id], [expected]) <= 1


def test_input_pictures_are_encoded_by_the_models_own_autoencoder() -> None:
    """Image-to-image uses the model's encoder and the small decoder."""
    model = wrap(FAMILIES["sd"](), name="sd", decoder=tiny(4))
    engine = engine_of({"sd": model})
    engine.add(request("a", image=picture(1), strength=0.5))
    assert isinstance(run_until_idle(engine)["a"], Finished)
    assert engine.stats.rows["decoder"] == 1
    assert model.unbatched_model().tasks["text-to-image"].vae._methods["decode"].run.__self__.module


def test_a_decoder_for_other_latents_is_refused() -> None:
    """Loading fails with the numbers of latent channels."""
    with pytest.raises(EngineError, match="16 latent channels"):
        wrap(FAMILIES["sd"](), name="sd", decoder=tiny(16))


def test_its_own_scale_and_shift_are_used() -> None:
    """The latents are scaled by the small autoencoder's config."""
    plain = wrap(FAMILIES["sd"](), name="sd", decoder=tiny(4))
    scaled = wrap(FAMILIES["sd"](), name="sd", decoder=tiny(4, scaling_factor=2.0))
    outcomes = []
    for model in (plain, scaled):
        engine = engine_of({"sd": model})
        engine.add(request("a"))
        outcomes.append(finished(run_until_idle(engine)["a"]))
    assert distance(outcomes[0], outcomes[1].pixels) > 4
