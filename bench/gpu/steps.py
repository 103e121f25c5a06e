"""Steps: T(rows), the seconds of one forward of a denoiser, and its floating-point operations."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu import random_models
from workers.pipelines.loading import compile_denoiser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIDE = 8192
"""The side of the square matrices whose product measures the device's rate."""
REPEATS = 5
WARM_UP_RUNS = 2
MODES = ("eager", "channels_last", "compiled", "regional", "channels_last regional")
"""How a denoiser computes; `regional` compiles only its repeated blocks."""


def matmul_flops(device: str, dtype: torch.dtype, side: int = SIDE) -> float:
    """Return the device's floating-point operations per second in one large matrix product."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: one @ other, device)


def seconds(work: Callable[[], Any], device: str, repeats: int = REPEATS) -> float:
    """Return the median seconds of `work` on the device, after a warm-up."""
    for _ in range(WARM_UP_RUNS):
        work()
    return statistics.median(_timed(work, device) for _ in range(repeats))


def _timed(work: Callable[[], Any], device: str) -> float:
    if device == "cpu":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


class Denoiser:
    """A denoiser, with inputs for forwards of any size."""

    def __init__(
        self, kind: str, device: str, dtype: torch.dtype, scale: random_models.Scale
    ) -> None:
        self.kind, self.device, self.dtype, self.scale = kind, device, dtype, scale
        self.module: Any = (
            random_models.sdxl(device, dtype, scale).unet
            if kind == "sdxl"
            else random_models.on(device, dtype, lambda: random_models.flux(scale))
        )

    def apply(self, mode: str) -> None:
        """Apply one of `MODES`."""
        if mode not in MODES:
            raise ValueError(f"there is no mode {mode!r}")
        if "channels_last" in mode:
            self.module.to(memory_format=torch.channels_last)
        if "compiled" in mode:
            compile_denoiser(self.module, "whole")
        if "regional" in mode:
            compile_denoiser(self.module, "blocks")

    def inputs(self, size: int, rows: int) -> dict[str, Any]:
        """Return the arguments of a forward of `rows` pictures of `size` x `size` pixels."""
        make = self._flux if self.kind == "flux" else self._sdxl
        return {**make(size, rows), "return_dict": False}

    def flops(self, size: int) -> float:
        """Return the floating-point operations of a forward of one row."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.module(**self.inputs(size, 1))
        return float(counter.get_total_flops())

    def _noise(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)

    def _sdxl(self, size: int, rows: int) -> dict[str, Any]:
        return {
            "sample": self._noise(rows, 4, size // 8, size // 8),
            "timestep": torch.full((rows,), 500.0, device=self.device),
            "encoder_hidden_states": self._noise(
                rows, random_models.CLIP_TOKENS, self.scale.text_width
            ),
            "added_cond_kwargs": {
                "text_embeds": self._noise(rows, self.scale.text[1][0]),
                "time_ids": self._noise(rows, 6),
            },
        }

    def _flux(self, size: int, rows: int) -> dict[str, Any]:
        config = self.module.config
        side = size // 16
        ids = torch.zeros(side, side, 3, device=self.device, dtype=self.dtype)
        ids[..., 1] += torch.arange(side, device=self.device)[:, None]
        ids[..., 2] += torch.arange(side, device=self.device)[None, :]
        return {
            "hidden_states": self._noise(rows, side * side, config.in_channels),
            "encoder_hidden_states": self._noise(
                rows, random_models.T5_TOKENS, config.joint_attention_dim
            ),
            "pooled_projections": self._noise(rows, config.pooled_projection_dim),
            "timestep": torch.full((rows,), 0.5, device=self.device, dtype=self.dtype),
            "img_ids": ids.reshape(-1, 3),
            "txt_ids": torch.zeros(
                random_models.T5_TOKENS, 3, device=self.device, dtype=self.dtype
            ),
        }


@torch.no_grad()
def times(denoiser: Denoiser, size: int, rows: Sequence[int], *, graph: bool) -> dict[int, float]:
    """Return the seconds of a forward, or with `graph` of its replay, by its rows."""
    times_s = {}
    for count in rows:
        inputs = denoiser.inputs(size, count)
        work = _captured(denoiser.module, inputs) if graph else _call(denoiser.module, inputs)
        times_s[count] = seconds(work, denoiser.device)
    return times_s


def _call(module: Any, inputs: dict[str, Any]) -> Callable[[], Any]:
    return lambda: module(**inputs)


def _captured(module: Any, inputs: dict[str, Any]) -> Callable[[], Any]:
    """Return a function that replays the forward as a CUDA graph, on the same inputs."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_RUNS):
            module(**inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(**inputs)
    return graph.replay
