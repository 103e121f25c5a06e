"""From the catalog to an engine that stands: which models this worker loads, and on what device."""

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

WARM_UP_S = 5.0  # for each model, beside what compiling takes: it delays the start
MEMORY_SHARE = 0.95  # of what is free on the device; libraries take some that nobody counts


def engine_of(catalog: Catalog, max_rows: int, memory_mb: int = 0) -> Callable[[], Steps]:
    """A function that loads the served models and builds the engine; call it in the device thread.

    The device's memory is used up to `memory_mb`; 0: all that is free on CUDA, unbounded on a CPU.
    Torch is imported there, and only if some model needs it.
    """

    def build() -> Steps:
        null = {n: m.delay_s for n, m in catalog.models.items() if m.pipeline == "null"}
        real = {n: m for n, m in catalog.models.items() if m.pipeline != "null"}
        engines = ([NullEngine(null)] if null else []) + (
            [_load(real, max_rows, memory_mb)] if real else []
        )
        if len(engines) == 1:
            return engines[0]
        owner = dict.fromkeys(null, engines[0]) | dict.fromkeys(real, engines[-1])
        return Mixed(engines, owner)

    return build


def device_of(catalog: Catalog) -> str:
    """The device's name, such as `NVIDIA L4`; `cpu` without one, `none` if nothing needs one."""
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
        made = load(model.path, name=name, **options(model))  # type: ignore[arg-type]
        swapper.add(name, made.weights)
        swapper.ensure_on_device(name)
        if made.colours is not None:
            made.colours()  # fitted now that nobody waits
        loaded[name] = made if batches(made) else made.unbatched_model()
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
            raise CatalogError(f"[{name}]: its defaults cannot be rendered: {error}") from error
    return engine


def _budget_bytes(torch: Any, memory_mb: int) -> int | None:
    """What weights and forwards may take of the device's memory; None: as much as there is."""
    if memory_mb or not torch.cuda.is_available():
        return memory_mb * 2**20 or None
    return int(torch.cuda.mem_get_info()[0] * MEMORY_SHARE)


def options(model: Model) -> dict[str, Any]:
    """What `workers.pipelines.loading.load` is told of a model's registry entry."""
    import torch  # noqa: PLC0415

    speed = asdict(model.speed)
    dtype = getattr(torch, speed.pop("dtype"))
    extras = {"loras": model.loras, "controlnets": model.controlnets, "decoder": model.decoder}
    return speed | {"dtype": dtype} | extras


def quieten() -> None:
    """Keep the libraries' progress bars and advice out of the worker's log; errors stay."""
    import diffusers  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


class Mixed:
    """Several engines behind one `step`, for a worker that serves real models beside `null`."""

    def __init__(self, engines: list[Steps], owner: Mapping[str, Steps]) -> None:
        self._engines = engines
        self._owner = owner

    @property
    def idle(self) -> bool:
        """Whether all are idle."""
        return all(engine.idle for engine in self._engines)

    @property
    def compiling(self) -> bool:
        """Whether one of them is."""
        return any(engine.compiling for engine in self._engines)

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Give the request to the engine that serves its model."""
        self._owner[request.model].add(request, checkpoint)

    def cancel(self, job_id: str) -> bool:
        """Have a job leave at the next step; False if it is not here."""
        return any(engine.cancel(job_id) for engine in self._engines)

    def step(self) -> list[Outcome]:
        """One step of each that has work."""
        return [out for engine in self._engines if not engine.idle for out in engine.step()]

    def drain(self) -> list[Drained]:
        """Let every job go."""
        return [left for engine in self._engines for left in engine.drain()]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """(steps done, steps asked for) of every job."""
        return {key: value for engine in self._engines for key, value in engine.progress().items()}

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """What these jobs look like, whosesoever they are."""
        return {k: seen for engine in self._engines for k, seen in engine.previews(job_ids).items()}

    def summary(self) -> dict[str, Any]:
        """What all have done so far."""
        return {key: value for engine in self._engines for key, value in engine.summary().items()}
