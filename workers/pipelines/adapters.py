"""Adapters of a model: LoRAs on a copy of its denoiser, and ControlNets."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from diffusers import ControlNetModel

from workers.engine import faults
from workers.engine.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

LORA_FILE = "pytorch_lora_weights.safetensors"
Loras = tuple[tuple[str, float], ...]


class LoraAdapters:
    """The LoRAs of one denoiser.

    They are state of a module, so a group has one active set at a time.

    They are applied to `module`, a copy of the denoiser: the same weights, in its own modules. So
    the denoiser itself never changes, and everything compiled or captured of it stays valid. Each
    LoRA is read from its folder when a job first asks for it. When more than `kept` are in memory,
    the least recently used inactive ones are dropped, and read again when a job needs them.
    """

    def __init__(
        self, pipeline: Any, denoiser: str, folders: Mapping[str, Path], kept: int = 16
    ) -> None:
        self.module = lora_copy(getattr(pipeline, denoiser))
        self._pipeline = copy.copy(pipeline)
        vars(self._pipeline)[denoiser] = self.module
        self._denoiser = denoiser
        self._folders = folders
        self._kept = kept
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._active: Loras = ()

    @property
    def names(self) -> list[str]:
        """The LoRAs that a job may ask for."""
        return sorted(self._folders)

    @property
    def loaded(self) -> list[str]:
        """The LoRAs in memory, the least recently used first."""
        return list(self._loaded)

    def either(
        self, plain: Callable[..., Any], on_out_of_memory: Callable[[], None]
    ) -> Callable[..., Any]:
        """Return the denoiser's function: it calls `plain`, or the copy while LoRAs are active.

        `on_out_of_memory` is called when memory runs out in the copy.
        """

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self._active:
                return plain(*args, **kwargs)
            try:
                return self.module(*args, **kwargs)
            except RuntimeError as error:
                if faults.out_of_memory(error):
                    on_out_of_memory()
                raise

        run.__signature__ = inspect.signature(self.module.forward)  # type: ignore[attr-defined]
        return run

    def fetch(self, names: list[str]) -> None:
        """Read the LoRAs that are not in memory.

        The active set stays, even if one cannot be read.
        """
        for name in names:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                continue
            try:
                self._make_room({*names, *(name for name, _ in self._active)})
                self._read(name)
            finally:  # loading or deleting an adapter changes the active set
                self._dress()

    def activate(self, loras: Loras) -> None:
        """Activate these LoRAs in the copy, if they are not active already."""
        if loras == self._active:
            return
        self._active = ()
        self._dress()
        self.fetch([name for name, _ in loras])  # some may have been dropped since their job came
        self._active = loras
        self._dress()

    def _read(self, name: str) -> None:
        self._pipeline.load_lora_weights(
            self._folders[name],
            weight_name=LORA_FILE,  # otherwise PEFT guesses, if there are others
            adapter_name=name,
            local_files_only=True,
        )
        if set(self._pipeline.get_list_adapters()) - {self._denoiser}:
            self._pipeline.delete_adapters(name)
            message = f"the LoRA {name} changes text encoders, which are shared"
            raise BadRequest("unusable_lora", "loras", message)
        self._loaded[name] = None

    def _make_room(self, needed: set[str]) -> None:
        """Drop the least recently used LoRAs, so that one more stays within `kept`."""
        idle = [name for name in self._loaded if name not in needed]
        for name in idle[: max(0, len(self._loaded) + 1 - self._kept)]:
            self._pipeline.delete_adapters(name)
            del self._loaded[name]

    def _dress(self) -> None:
        if self._active:
            self.module.enable_lora()
            self.module.set_adapters(
                [name for name, _ in self._active], [scale for _, scale in self._active]
            )
        elif self._loaded:
            self.module.disable_lora()


def lora_copy(module: torch.nn.Module) -> Any:
    """Return a copy: new modules around the same parameters and buffers; nothing of it is compiled.

    No parameter requires a gradient from now on. Reading a LoRA would set this anyway, and
    everything compiled with gradients would then be compiled again.
    """
    module.requires_grad_(requires_grad=False)
    shared: dict[int, Any] = {id(weight): weight for weight in module.parameters()}
    # A move replaces a module's buffers, so their containers are shared, too.
    shared |= {id(part._buffers): part._buffers for part in module.modules()}  # noqa: SLF001
    return copy.deepcopy(module, memo=shared)


def load_controlnet(folder: Path, dtype: torch.dtype) -> Any:
    """Load a ControlNet from a diffusers folder."""
    return ControlNetModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
