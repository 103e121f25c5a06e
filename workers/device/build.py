"""Builds the engine from the catalog: for each model load, probe (can it batch?) and warm up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.errors import CatalogError
from workers.device.null import NullEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from app.catalog.entries import Catalog, Model
    from workers.device.runtime import Steps
    from workers.engine.model import Preview
    from workers.engine.request import Drained, Outcome, Request

WARM_UP_S = 5.0  # for each model, without compilation; it delays the worker's start
MEMORY_SHARE = 0.95  # of the free device memory; libraries use some that is not counted


def engine_of(catalog: Catalog, max_rows: int, memory_mb: int = 0) -> Callable[[], Steps]:
    """Return a function that loads the models and builds the engine; call it in the device thread.

    The engine uses at most `memory_mb` of device memory; 0 means all free memory on CUDA, and no
    limit on a CPU. The function imports torch, but only if a model needs it.
    """

    def build() -> Steps:
        null = {n: m.delay_s for n, m in catalog.models.items() if m.pipeline == "null"}
        real = {n: m for n, m in catalog.models.items() if m.pipeline != "null"}
        engines = ([NullEngine(null)] if null else []) + (
            [_load(real, max_rows, memory_mb)] if real else []
        )
        if len(engines) == 1:
            return engines[0]
        by_model = dict.fromkeys(null, engines[0]) | dict.fromkeys(real, engines[-1])
        return Mixed(engines, by_model)

    return build


def device_of(catalog: Catalog) -> str:
    """Return the GPU's name, such as `NVIDIA L4`.

    `cpu` without a GPU; `none` for null models only.
    """
    if all(model.pipeline == "null" for model in catalog.models.values()):
        return "none"
    import torch  # noqa: PLC0415

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _load(models: Mapping[str, Model], max_rows: int, memory_mb: int) -> Steps:
    import torch  # noqa: PLC0415 - takes seconds to import

    quieten()
    from workers.engine.engine import Engine  # noqa: PLC0415
    from workers.engine.request import BadRequest, Request  # noqa: PLC0415
    from workers.engine.swapper import ModelSwapper  # noqa: PLC0415
    from workers.pipelines.loading import load  # noqa: PLC0415
    from workers.pipelines.probe import batches  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    swapper = ModelSwapper(device, _budget_bytes(torch, memory_mb))
    loaded = {}
    for name, model in models.items():
        candidate = load(model.path, name=name, **options(model))  # type: ignore[arg-type]
        swapper.add(name, candidate.weights)
        swapper.ensure_on_device(name)
        if candidate.colours is not None:
            candidate.colours()  # fit the previews' colours now, while no job waits
        loaded[name] = candidate if batches(candidate) else candidate.unbatched_model()
    engine = Engine(loaded, max_rows=max_rows, swapper=swapper)
    for name, model in models.items():
        plain = model.defaults
        try:
            engine.warm_up(
                Request(
                    id="warm-up",
                    model=name,
                    prompt="a circle",
                    width=plain.width,
                    height=plain.height,
                    num_inference_steps=2,
                    guidance_scale=plain.guidance_scale,
                    seed=0,
                ),
                WARM_UP_S,
            )
        except BadRequest as error:
            raise CatalogError(f"[{name}]: cannot render with its defaults: {error}") from error
    return engine


def _budget_bytes(torch: Any, memory_mb: int) -> int | None:
    """Return the memory that weights and forwards may use, in bytes; None for no limit."""
    if memory_mb or not torch.cuda.is_available():
        return memory_mb * 2**20 or None
    return int(torch.cuda.mem_get_info()[0] * MEMORY_SHARE)


def options(model: Model) -> dict[str, Any]:
    """Return the arguments of `workers.pipelines.loading.load` for a model's registry entry."""
    import torch  # noqa: PLC0415

    speed = asdict(model.speed)
    dtype = getattr(torch, speed.pop("dtype"))
    extras = {"loras": model.loras, "controlnets": model.controlnets, "decoder": model.decoder}
    return speed | {"dtype": dtype} | extras


def quieten() -> None:
    """Hide the libraries' progress bars and advice; the worker's log keeps their errors."""
    import diffusers  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


class Mixed:
    """Several engines behind one `step`, for a worker that serves both real and `null` models."""

    def __init__(self, engines: list[Steps], by_model: Mapping[str, Steps]) -> None:
        self._engines = engines
        self._by_model = by_model

    @property
    def idle(self) -> bool:
        """Whether all engines are idle."""
        return all(engine.idle for engine in self._engines)

    @property
    def compiling(self) -> bool:
        """Whether the current forward of an engine may need compilation."""
        return any(engine.compiling for engine in self._engines)

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Queue the request in the engine that serves its model."""
        self._by_model[request.model].add(request, checkpoint)

    def cancel(self, job_id: str) -> bool:
        """Remove a job at the next step. Return False if no engine has it."""
        return any(engine.cancel(job_id) for engine in self._engines)

    def step(self) -> list[Outcome]:
        """Run one step of each engine that has work."""
        return [out for engine in self._engines if not engine.idle for out in engine.step()]

    def drain(self) -> list[Drained]:
        """Remove all jobs. Return each with its checkpoint."""
        return [drained for engine in self._engines for drained in engine.drain()]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return (steps done, steps requested) for each job."""
        return {key: value for engine in self._engines for key, value in engine.progress().items()}

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """Return the previews of these jobs from all engines."""
        return {k: view for engine in self._engines for k, view in engine.previews(job_ids).items()}

    def summary(self) -> dict[str, Any]:
        """Return the statistics of all engines in one object."""
        return {key: value for engine in self._engines for key, value in engine.summary().items()}
