"""LoraAdapters: the LoRAs of a model's denoiser, loaded on demand and activated per forward."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from workers.engine import faults
from workers.engine.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

LORA_FILE = "pytorch_lora_weights.safetensors"
Loras = tuple[tuple[str, float], ...]


class LoraAdapters:
    """The LoRAs of one denoiser; one set of them is active at a time, because they are its state.

    `module`, a copy of the denoiser with shared weights, holds them. So the denoiser itself never
    changes, and its compiled code and CUDA graphs stay valid. A LoRA is loaded from its folder when
    a job first needs it. If more than `kept` are loaded, the least recently used inactive ones are
    unloaded, and loaded again when a job needs them.
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
        """The LoRAs that a job may use."""
        return sorted(self._folders)

    @property
    def loaded(self) -> list[str]:
        """The LoRAs in memory, the least recently used one first."""
        return list(self._loaded)

    def wrap_denoiser(
        self, plain: Callable[..., Any], on_out_of_memory: Callable[[], None]
    ) -> Callable[..., Any]:
        """Return a function that calls `plain`, or the copy while LoRAs are active.

        It calls `on_out_of_memory` if the copy runs out of memory.
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

    def load(self, names: list[str]) -> None:
        """Load the LoRAs that are not in memory; the active ones stay active even if it fails."""
        for name in names:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                continue
            try:
                self._make_room({*names, *(active for active, _ in self._active)})
                self._load_one(name)
            finally:  # loading and unloading change which LoRAs are active
                self._apply()

    def activate(self, loras: Loras) -> None:
        """Make exactly these LoRAs active."""
        if loras == self._active:
            return
        self._active = ()
        self._apply()
        self.load([name for name, _ in loras])  # some may be unloaded by now
        self._active = loras
        self._apply()

    def _load_one(self, name: str) -> None:
        self._pipeline.load_lora_weights(
            self._folders[name],
            weight_name=LORA_FILE,  # else diffusers guesses if the folder has other files
            adapter_name=name,
            local_files_only=True,
        )
        if set(self._pipeline.get_list_adapters()) - {self._denoiser}:
            self._pipeline.delete_adapters(name)
            message = f"the LoRA {name} changes text encoders, which all jobs share"
            raise BadRequest("unusable_lora", "loras", message)
        self._loaded[name] = None

    def _make_room(self, needed: set[str]) -> None:
        """Unload the least recently used LoRAs, so that one more makes at most `kept`."""
        idle = [name for name in self._loaded if name not in needed]
        for name in idle[: max(0, len(self._loaded) + 1 - self._kept)]:
            self._pipeline.delete_adapters(name)
            del self._loaded[name]

    def _apply(self) -> None:
        if self._active:
            self.module.enable_lora()
            self.module.set_adapters(
                [name for name, _ in self._active], [scale for _, scale in self._active]
            )
        elif self._loaded:
            self.module.disable_lora()


def lora_copy(module: torch.nn.Module) -> Any:
    """Copy the modules, but share their parameters and buffers; the copy is not compiled.

    All parameters stop requiring gradients: loading a LoRA would do that later, and code compiled
    with gradients would be compiled again.
    """
    module.requires_grad_(requires_grad=False)
    shared: dict[int, Any] = {id(weight): weight for weight in module.parameters()}
    # A move replaces the buffers in a module's own dictionary, so the dictionary is shared.
    shared |= {id(part._buffers): part._buffers for part in module.modules()}  # noqa: SLF001
    return copy.deepcopy(module, memo=shared)
