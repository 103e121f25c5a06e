"""Device models: T(rows) of one denoiser step, from published measurements.

The figures are seconds per call of `StableDiffusionPipeline` for n pictures of 512x512 (Stable
Diffusion 1.4, half precision, 30 DDIM steps), as Lambda Labs published them in
github.com/LambdaLabsML/lambda-diffusers, benchmarks/benchmark_H100_MIG.csv. A guided picture has
two rows, so n pictures are 2n rows. T is assumed to be linear between the sizes and outside them.
The seconds include encoding and decoding, which are therefore spread over the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS = 30


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is nothing but its times."""

    name: str
    about: str
    call_s: tuple[tuple[int, float], ...]
    """Pairs of the pictures in a call and the seconds of 30 steps."""

    def seconds(self, rows: int) -> float:
        """Return T(rows) of one step."""
        points = [(2 * pictures, call_s / STEPS) for pictures, call_s in self.call_s]
        low, high = points[0], points[1]
        for point in points[1:]:
            low, high = (low, point) if rows <= point[0] else (point, point)
            if rows <= point[0]:
                break
        if low == high:  # beyond the table: its last segment continues
            low, high = points[-2], points[-1]
        return low[1] + (rows - low[0]) * (high[1] - low[1]) / (high[0] - low[0])


H100 = Device(
    "h100",
    "H100 PCIe: 8 pictures in 4.7 times the time of one",
    ((1, 1.06), (2, 1.73), (4, 2.63), (8, 4.97), (16, 9.61)),
)
H100_QUARTER = Device(
    "h100-2g",
    "H100 PCIe, a quarter of it (MIG 2g.20gb): 8 pictures in 6.1 times the time of one",
    ((1, 2.58), (2, 4.56), (4, 8.24), (8, 15.81)),
)
DEVICES = {device.name: device for device in (H100, H100_QUARTER)}
