"""The same strategies with a real model, on this machine.

On a processor the clock is this process's processor time, so other programs on the machine do not
count. On an accelerator it is the wall clock. Both skip the pauses in which no job waits.
"""

from __future__ import annotations

import copy
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from app.config.repository import REPOSITORY
from bench.engine.simulate import CHOICES, MAX_ROWS, WINDOW_S
from bench.engine.traces import Ask
from workers.engine.engine import Engine
from workers.engine.request import Finished, Request
from workers.pipelines.loading import load
from workers.pipelines.schedulers import for_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from workers.pipelines.model import LoadedModel

FOLDER = REPOSITORY / "models" / "scenes"
PROMPTS = ("a red circle on a blue background", "two green stars", "a yellow ring", "a black cross")
THREADS = 4
REPEATS = 5
"""How often a single job is timed."""
Pixels = dict[str, "NDArray[np.uint8]"]


class Clock:
    """Seconds by `read`, which can skip pauses."""

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._skipped_s = -read()

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        return self._read() + self._skipped_s

    def skip_to(self, at_s: float) -> None:
        """Skip to this time, unless it has passed."""
        self._skipped_s += max(0.0, at_s - self.now())


class PerThread:
    """A tokenizer with a copy for each thread, because its padding is state that calls change."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._copies = tokenizer, threading.local()

    def _own(self) -> Any:
        if not hasattr(self._copies, "tokenizer"):
            with _copying:
                self._copies.tokenizer = copy.deepcopy(self._tokenizer)
        return self._copies.tokenizer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Tokenize with this thread's copy."""
        return self._own()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own(), name)


class Rig:
    """The model, loaded once for all strategies, and the pixels of the last trace.

    `pipeline` is the stock one, `model` the same one for the engine, `size` the pixels of a
    picture's side. `read` returns the seconds of the clock.
    """

    def __init__(
        self,
        size: int,
        pipeline: Any,
        model: LoadedModel,
        read: Callable[[], float] = time.process_time,
    ) -> None:
        self._size, self.pipeline, self.model, self._read = size, pipeline, model, read
        checked = "requires_safety_checker" in pipeline.config
        self._unchecked = {"requires_safety_checker": False} if checked else {}
        self._tokenizers = {
            part: PerThread(component)
            for part, component in pipeline.components.items()
            if part.startswith("tokenizer")
        }
        self.pixels: Pixels = {}
        self.strategies: dict[str, Callable[[Sequence[Ask]], dict[str, float]]] = {
            "serial": self.serial,
            "threads": self.threads,
            "window": self.window,
            **{name: self.engine(choose) for name, choose in CHOICES.items()},
        }

    @classmethod
    def of_scenes(cls, size: int) -> Rig:
        """Load the model of this repository, on the processor."""
        pipeline = DiffusionPipeline.from_pretrained(
            FOLDER, dtype=torch.float32, local_files_only=True
        )
        return cls(size, pipeline, load(FOLDER, name="scenes"))

    def clock(self) -> Clock:
        """Return a clock that begins at 0."""
        return Clock(self._read)

    def request(self, ask: Ask) -> Request:
        """Return the request of a job in a trace."""
        number = int(ask.name.split()[-1])
        return Request(
            id=ask.name,
            model=self.model.name,
            prompt=PROMPTS[number % len(PROMPTS)],
            width=self._size,
            height=self._size,
            num_inference_steps=ask.steps,
            guidance_scale=4.0 if ask.rows == 2 else 1.0,
            seed=number,
        )

    def serial(self, trace: Sequence[Ask]) -> dict[str, float]:
        """Render one job at a time, in the order of arrival."""
        self.pixels, ended = {}, {}
        clock = self.clock()
        for ask in trace:
            clock.skip_to(ask.at_s)
            self.call([ask])
            ended[ask.name] = clock.now()
        return ended

    def serial_s(self, steps: int, rows: int) -> float:
        """Return the seconds of a single job: the median after a warm-up."""
        times = []
        for _ in range(1 + REPEATS):
            clock = self.clock()
            self.call([Ask("job 0", 0.0, steps, rows)])
            times.append(clock.now())
        return statistics.median(times[1:])

    def threads(self, trace: Sequence[Ask]) -> dict[str, float]:
        """Render each job in a thread, with its own pipeline around the shared modules."""
        self.pixels, ended = {}, {}
        clock = self.clock()
        futures: list[Future[None]] = []

        def render(ask: Ask) -> None:
            self.call([ask])
            ended[ask.name] = clock.now()

        with ThreadPoolExecutor(THREADS) as pool:
            for ask in trace:
                while clock.now() < ask.at_s:
                    if all(future.done() for future in futures):
                        clock.skip_to(ask.at_s)
                    time.sleep(0.002)
                futures.append(pool.submit(render, ask))
        for future in futures:
            future.result()
        return ended

    def window(self, trace: Sequence[Ask]) -> dict[str, float]:
        """Wait `WINDOW_S` for jobs of equal steps and guidance, and run each batch to its end."""
        self.pixels, ended = {}, {}
        coming = list(trace)
        waiting: list[Ask] = []
        clock = self.clock()
        while coming or waiting:
            if not waiting:
                clock.skip_to(coming[0].at_s + WINDOW_S)
            while coming and coming[0].at_s <= clock.now():
                waiting.append(coming.pop(0))
            first = waiting[0]
            same = [ask for ask in waiting if (ask.steps, ask.rows) == (first.steps, first.rows)]
            batch = same[: MAX_ROWS // first.rows]
            self.call(batch)
            for ask in batch:
                waiting.remove(ask)
                ended[ask.name] = clock.now()
        return ended

    def engine(
        self, choose: Any, model: LoadedModel | None = None
    ) -> Callable[[Sequence[Ask]], dict[str, float]]:
        """Return the engine under a policy as a strategy; `model` replaces the rig's own."""
        models = {self.model.name: model or self.model}

        def strategy(trace: Sequence[Ask]) -> dict[str, float]:
            clock = self.clock()
            engine = Engine(models, max_rows=MAX_ROWS, clock=clock.now, choose=choose)
            engine.warm_up(self.request(trace[0]))
            self.pixels, ended = {}, {}
            coming = list(trace)
            began_s = clock.now()
            while coming or not engine.idle:
                if engine.idle:
                    clock.skip_to(began_s + coming[0].at_s)
                while coming and began_s + coming[0].at_s <= clock.now():
                    engine.add(self.request(coming.pop(0)))
                for outcome in engine.step():
                    if not isinstance(outcome, Finished):
                        raise TypeError(f"expected a picture, got {outcome}")
                    self.pixels[outcome.id] = outcome.pixels[0]
                    ended[outcome.id] = clock.now() - began_s
            return ended

        return strategy

    def call(self, batch: Sequence[Ask]) -> None:
        """Call the stock pipeline for jobs of equal steps and guidance."""
        asks = [self.request(ask) for ask in batch]
        pipeline = type(self.pipeline)(
            **{**self.pipeline.components, "scheduler": self._scheduler()},
            **self._unchecked,
        )
        vars(pipeline).update(self._tokenizers)
        pipeline.set_progress_bar_config(disable=True)
        pictures = pipeline(
            prompt=[ask.prompt for ask in asks],
            width=self._size,
            height=self._size,
            num_inference_steps=asks[0].num_inference_steps,
            guidance_scale=asks[0].guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(ask.seed) for ask in asks],
        ).images
        self.pixels |= {
            ask.id: np.asarray(image) for ask, image in zip(asks, pictures, strict=True)
        }

    def _scheduler(self) -> Any:
        with _copying:
            return for_job(self.pipeline.scheduler)


_copying = threading.Lock()


def largest_difference(one: Pixels, other: Pixels) -> int:
    """Return the largest difference of any pixel, of 255."""
    return max(int(np.abs(one[name].astype(int) - other[name].astype(int)).max()) for name in one)
