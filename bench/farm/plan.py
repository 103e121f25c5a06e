"""The plan of a run: how much it measures, and which pictures it asks for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

PARTS = ("latency", "throughput", "burst")
PROMPTS = (
    "a red circle on a blue background",
    "two green stars on a yellow background",
    "a white square on a black background",
    "three orange triangles on a purple background",
)
SCHEDULER = "dpmpp_2m"
SIZE = 128
NULL_SIZE = 64
GUIDANCE = 4.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One picture to ask for, the same for both contenders. `size` in pixels, both ways."""

    model: str
    prompt: str = PROMPTS[0]
    steps: int = 1
    size: int = NULL_SIZE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of one run. Each of `repeats` rounds measures every side once, in turn."""

    repeats: int = 5
    warm_up_jobs: int = 3
    latency_jobs: int = 20
    latency_steps: int = 8
    throughput_jobs: int = 500
    client_threads: int = 8
    burst_jobs: int = 32
    burst_steps: tuple[int, ...] = (4, 8, 12, 20)
    handmade_poll_s: float = 0.1
    farm_slots: int = 16
    patience_s: float = 300.0

    def quick(self) -> Plan:
        """Return the same in a minute or two: to see that it works, not to quote."""
        return replace(
            self, repeats=2, latency_jobs=5, throughput_jobs=100, burst_jobs=16, burst_steps=(2, 4)
        )

    def null_asks(self, count: int) -> list[Ask]:
        """Return jobs without rendering."""
        return [Ask("null", seed=n) for n in range(count)]

    def scene_asks(self, count: int) -> list[Ask]:
        """Return small pictures, all of the same number of steps."""
        return [
            Ask("scenes", prompt, self.latency_steps, SIZE, seed)
            for seed, prompt in zip(range(count), itertools.cycle(PROMPTS), strict=False)
        ]

    def burst_asks(self) -> list[Ask]:
        """Return pictures of mixed steps, in a well mixed order."""
        return [
            Ask("scenes", PROMPTS[n % len(PROMPTS)], self.burst_steps[n % len(self.burst_steps)],
                SIZE, n)
            for n in range(self.burst_jobs)
        ]  # fmt: skip
