"""Extras of a model: LoRAs that its denoiser wears for some jobs, ControlNets that steer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import ControlNetModel

from workers.engine.request import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

Loras = tuple[tuple[str, float], ...]


class Wardrobe:
    """The LoRAs of one denoiser. They are state of the module, so a group wears one set at a time.

    Each is read from its folder when a job first asks for it.
    """

    def __init__(self, pipeline: Any, denoiser: str, folders: Mapping[str, Path]) -> None:
        self._pipeline = pipeline
        self._denoiser = denoiser
        self._folders = folders
        self._loaded: set[str] = set()
        self._worn: Loras = ()

    @property
    def names(self) -> list[str]:
        """The LoRAs that a job may ask for."""
        return sorted(self._folders)

    def fetch(self, names: list[str]) -> None:
        """Read those that have not been read yet; what is worn stays as it is."""
        for name in names:
            if name in self._loaded:
                continue
            self._pipeline.load_lora_weights(
                self._folders[name], adapter_name=name, local_files_only=True
            )
            if set(self._pipeline.get_list_adapters()) - {self._denoiser}:
                self._pipeline.delete_adapters(name)
                raise EngineError(f"the LoRA {name} changes text encoders, which are shared")
            self._loaded.add(name)
            self._dress()

    def wear(self, loras: Loras) -> None:
        """Change what the denoiser wears, if it wears something else."""
        if loras != self._worn:
            self._worn = loras
            self._dress()

    def _dress(self) -> None:
        module = getattr(self._pipeline, self._denoiser)
        if self._worn:
            module.enable_lora()
            module.set_adapters(
                [name for name, _ in self._worn], [scale for _, scale in self._worn]
            )
        elif self._loaded:
            module.disable_lora()


def load_controlnet(folder: Path, dtype: torch.dtype) -> Any:
    """Load a ControlNet from a diffusers folder."""
    return ControlNetModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
