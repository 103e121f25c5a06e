"""Extras of a model: LoRAs that its denoiser wears for some jobs, ControlNets that steer it."""

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
    """The LoRAs of one denoiser. They are state of a module, so a group wears one set at a time.

    What wears them is `module`, the denoiser's twin: the same weights, in modules of its own. So the
    denoiser itself never changes, and whatever was compiled or recorded of it stays good. Each is read
    from its folder when a job first asks for it. Of those that are not worn, the least recently used
    ones leave memory once there are more than `kept`, and are read again when a job needs them.
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
        self._worn: Loras = ()

    @property
    def names(self) -> list[str]:
        """The LoRAs that a job may ask for."""
        return sorted(self._folders)

    @property
    def loaded(self) -> list[str]:
        """Those in memory, the least recently used first."""
        return list(self._loaded)

    def either(self, plain: Callable[..., Any], full: Callable[[], None]) -> Callable[..., Any]:
        """Return what stands for the denoiser: calls `plain`, or the twin while it wears any.

        `full` is called when memory ends under the twin.
        """

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self._worn:
                return plain(*args, **kwargs)
            try:
                return self.module(*args, **kwargs)
            except RuntimeError as error:
                if faults.out_of_memory(error):
                    full()
                raise

        run.__signature__ = inspect.signature(self.module.forward)  # type: ignore[attr-defined]
        return run

    def fetch(self, names: list[str]) -> None:
        """Read those that are not in memory; what is worn stays as it is, also if one can't be read."""
        for name in names:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                continue
            try:
                self._make_room({*names, *(worn for worn, _ in self._worn)})
                self._read(name)
            finally:  # what comes or goes changes which of them are active
                self._dress()

    def activate(self, loras: Loras) -> None:
        """Change what the twin wears, if it wears something else."""
        if loras == self._worn:
            return
        self._worn = ()
        self._dress()
        self.fetch([name for name, _ in loras])  # some may have left since their job came
        self._worn = loras
        self._dress()

    def _read(self, name: str) -> None:
        self._pipeline.load_lora_weights(
            self._folders[name],
            weight_name=LORA_FILE,  # else a guess, where there are others
            adapter_name=name,
            local_files_only=True,
        )
        if set(self._pipeline.get_list_adapters()) - {self._denoiser}:
            self._pipeline.delete_adapters(name)
            message = f"the LoRA {name} changes text encoders, which are shared"
            raise BadRequest("unusable_lora", "loras", message)
        self._loaded[name] = None

    def _make_room(self, needed: set[str]) -> None:
        """Let the least recently used go, so that one more makes no more than are kept."""
        idle = [name for name in self._loaded if name not in needed]
        for name in idle[: max(0, len(self._loaded) + 1 - self._kept)]:
            self._pipeline.delete_adapters(name)
            del self._loaded[name]

    def _dress(self) -> None:
        if self._worn:
            self.module.enable_lora()
            self.module.set_adapters(
                [name for name, _ in self._worn], [scale for _, scale in self._worn]
            )
        elif self._loaded:
            self.module.disable_lora()


def lora_copy(module: torch.nn.Module) -> Any:
    """Return modules of their own around the same parameters and buffers; nothing of them is compiled.

    No parameter asks for a gradient from now on: reading a LoRA would see to that, and so have what was
    compiled with gradients in mind compiled again.
    """
    module.requires_grad_(requires_grad=False)
    shared: dict[int, Any] = {id(weight): weight for weight in module.parameters()}
    # A move puts other buffers in the place of a module's own: what holds them is shared, too.
    shared |= {id(part._buffers): part._buffers for part in module.modules()}  # noqa: SLF001
    return copy.deepcopy(module, memo=shared)


def load_controlnet(folder: Path, dtype: torch.dtype) -> Any:
    """Load a ControlNet from a diffusers folder."""
    return ControlNetModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
