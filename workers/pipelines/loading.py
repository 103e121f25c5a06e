"""Loading: a diffusers folder onto the device, with the settings of its registry entry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ControlNetModel, DiffusionPipeline

from workers.pipelines.decoder import load_decoder
from workers.pipelines.model import DENOISERS, LoadedModel, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The most compiled variants of a class, for all models together: picture sizes x powers of two of
# rows x widths of a block. torch's own limits are 8, and 256 in total.
COMPILED_SIZES = 2048


def load(
    folder: Path,
    *,
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    loras: Mapping[str, Path] | None = None,
    controlnets: Mapping[str, Path] | None = None,
    vae_tiling: bool = False,
    channels_last: bool = False,
    compile: str = "",  # noqa: A002 - torch's word
    graphs: bool = False,
    attention: str = "",
    decoder: Path | None = None,
    loras_kept: int = 16,
    prompt_cache_mb: int = 256,
) -> LoadedModel:
    """Load a diffusers folder onto `device`, without any download.

    docs/howto/tune-models.md explains the parameters from `vae_tiling` on. `decoder` is the folder
    of an AutoencoderTiny for the same latents.
    """
    pipeline = _read(folder, dtype)
    if vae_tiling:
        pipeline.vae.enable_tiling()
    nets = {net: _load_controlnet(path, dtype) for net, path in (controlnets or {}).items()}
    small = load_decoder(decoder, dtype).to(device) if decoder else None
    pipeline.to(device)
    tune(pipeline, channels_last=channels_last, attention=attention, compiled=compile)
    return wrap(
        pipeline,
        name=name,
        loras=loras,
        controlnets={net: module.to(device) for net, module in nets.items()},
        bucketed=bool(compile),
        decoder=small,
        loras_kept=loras_kept,
        encoder_cache_bytes=prompt_cache_mb * 2**20,
        graphs=graphs,
    )


def tune(pipeline: Any, *, channels_last: bool, attention: str, compiled: str) -> None:
    """Set memory format, attention backend and compilation of a pipeline that is on its device.

    `compiled` is empty, `whole` or `blocks`. `blocks` compiles only the repeated blocks, equal ones
    once; that takes seconds per size, while the whole denoiser takes minutes.
    """
    denoiser = next(getattr(pipeline, part) for part in DENOISERS if part in pipeline.components)
    if channels_last:
        denoiser.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    if attention:
        denoiser.set_attention_backend(attention)
    if compiled:
        compile_denoiser(denoiser, compiled)


def compile_denoiser(denoiser: Any, how: str) -> None:
    """Compile a denoiser at its next call: `whole`, or its repeated `blocks` if it has any."""
    # Beyond these limits torch runs eager code.
    torch._dynamo.config.recompile_limit = COMPILED_SIZES  # noqa: SLF001 - its documented place
    torch._dynamo.config.accumulated_recompile_limit = COMPILED_SIZES  # noqa: SLF001
    blocks = repeated(denoiser) if how == "blocks" else []
    for module in blocks or [denoiser]:
        module.compile(dynamic=False)


def repeated(denoiser: Any) -> list[Any]:
    """Return the repeated blocks of a denoiser; none if its class does not declare them."""
    kinds = set(getattr(denoiser, "_repeated_blocks", None) or ())
    kinds |= {type(block).__name__ for block in getattr(denoiser, "transformer_blocks", ())}
    return [block for block in denoiser.modules() if type(block).__name__ in kinds]


def _load_controlnet(folder: Path, dtype: torch.dtype) -> Any:
    return ControlNetModel.from_pretrained(folder, dtype=dtype, local_files_only=True)


def _read(folder: Path, dtype: torch.dtype) -> Any:
    """Load the stock pipeline into host memory, without its safety checker."""
    parts = json.loads((folder / "model_index.json").read_text())
    absent = {part: None for part in ("safety_checker", "feature_extractor") if part in parts}
    if "requires_safety_checker" in parts:
        absent["requires_safety_checker"] = False  # type: ignore[assignment]
    pipeline = DiffusionPipeline.from_pretrained(
        folder, dtype=dtype, local_files_only=True, **absent
    )
    if dtype != torch.float32 and getattr(pipeline.vae.config, "force_upcast", False):
        # SDXL's autoencoder overflows in fp16. Its pipelines cast it back and forth around each
        # use, which would change it while other jobs use it, so it stays in fp32. bf16 does not
        # overflow, but some pipelines cast it as well.
        vae_dtype = torch.float32 if dtype == torch.float16 else dtype
        pipeline.vae.to(vae_dtype).register_to_config(force_upcast=False)
    return pipeline
