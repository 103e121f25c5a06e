"""Model swapper (offload): which models are on the device, and which wait in host memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

import torch

from workers.engine.memory import to_evict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

# The share of the budget for weights; the rest is for forwards. A larger model is still served,
# with the device to itself.
WEIGHTS_SHARE = 0.8


class Movable(Protocol):
    """Weights that can move between devices: see `Weights`."""

    @property
    def size_bytes(self) -> int:
        """Their size."""

    def move(self, device: str) -> None:
        """Move them to this device."""

    def free_scratch(self) -> None:
        """Free everything that can be made again."""


class Weights:
    """The modules of one model, which move together.

    `forget` drops everything tied to their address.
    """

    def __init__(
        self, modules: Iterable[torch.nn.Module], forget: Callable[[], None] = lambda: None
    ) -> None:
        self._modules, self._forget = list(modules), forget

    @property
    def size_bytes(self) -> int:
        """Bytes of all parameters and buffers, LoRAs included; shared ones count once."""
        storages = {
            storage.data_ptr(): storage.nbytes()
            for module in self._modules
            for tensor in (*module.parameters(), *module.buffers())
            if (storage := tensor.untyped_storage()).nbytes()
        }
        return sum(storages.values())

    def move(self, device: str) -> None:
        """Move every module to a device."""
        self._forget()
        for module in self._modules:
            module.to(device)

    def free_scratch(self) -> None:
        """Free captured forwards."""
        self._forget()


class ModelSwapper:
    """Moves models between the device and host memory, the least recently used one first.

    `budget_bytes` is the device memory for weights and forwards; None means no limit. Only the
    thread that owns the device may use it, so no model is moved twice at once.
    """

    def __init__(self, device: str, budget_bytes: int | None = None) -> None:
        self._device = device
        self._budget_bytes = budget_bytes
        self._models: dict[str, Movable] = {}
        self._sizes: dict[str, int] = {}
        self._resident: OrderedDict[str, None] = OrderedDict()
        self.moves = 0

    def add(self, name: str, weights: Movable) -> None:
        """Add a model, which is in host memory."""
        self._models[name] = weights
        self._sizes[name] = weights.size_bytes

    @property
    def resident(self) -> list[str]:
        """The models on the device, the least recently used first."""
        return list(self._resident)

    @property
    def free_bytes(self) -> int | None:
        """The memory left for forwards; None without a budget."""
        if self._budget_bytes is None:
            return None
        return self._budget_bytes - sum(self._sizes[name] for name in self._resident)

    def ensure_on_device(self, name: str, busy: Collection[str] = ()) -> bool:
        """Load a model onto the device; False if the `busy` ones leave no room for it."""
        if name not in self._models or name in self._resident:
            if name in self._resident:
                self._resident.move_to_end(name)
            return True
        leave = self._leave(name, busy)
        if leave is None:
            return False
        for other in leave:
            self._models[other].move("cpu")
            del self._resident[other]
            self._sizes[other] = self._models[other].size_bytes  # LoRAs may have been added
        for other in self._resident:
            self._models[other].free_scratch()
        if self._device != "cpu":
            torch.cuda.empty_cache()
        self._models[name].move(self._device)
        self._resident[name] = None
        self.moves += 1
        return True

    def _leave(self, name: str, busy: Collection[str]) -> list[str] | None:
        if self._budget_bytes is None:
            return []
        idle = [(other, self._sizes[other]) for other in self._resident if other not in busy]
        held = sum(self._sizes[other] for other in self._resident)
        free = int(self._budget_bytes * WEIGHTS_SHARE) - held
        leave = to_evict(self._sizes[name], free, idle)
        if leave is None and len(idle) == len(self._resident):
            return [other for other, _ in idle]
        return leave
