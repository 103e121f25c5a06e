"""From the catalog to an engine that stands: which models this worker loads, and on what device."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.errors import CatalogError
from workers.null import NullEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from app.catalog import Catalog, Model
    from workers.engine.preview import Preview
    from workers.engine.request import Drained, Outcome, Request
    from workers.runtime import Steps

WARM_UP_S = 5.0  # for each model: it delays the start


def engine_of(catalog: Catalog, max_rows: int) -> Callable[[], Steps]:
    """A function that loads the served models and builds the engine; call it in the device thread.

    Torch is imported there, and only if some model needs it.
    """

    def build() -> Steps:
        null = {n: m.delay_s for n, m in catalog.models.items() if m.pipeline == "null"}
        real = {n: m for n, m in catalog.models.items() if m.pipeline != "null"}
        engines = ([NullEngine(null)] if null else []) + ([_load(real, max_rows)] if real else [])
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


def _load(models: Mapping[str, Model], max_rows: int) -> Steps:
    import torch  # noqa: PLC0415 - takes seconds to import

    _quieten()
    from workers.engine.engine import Engine  # noqa: PLC0415
    from workers.engine.loading import load  # noqa: PLC0415
    from workers.engine.probe import batches  # noqa: PLC0415
    from workers.engine.request import BadRequest, Request  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = {}
    for name, model in models.items():
        made = load(model.path, name=name, device=device, **_options(model, torch))  # type: ignore[arg-type]
        loaded[name] = made if batches(made) else made.alone()
    engine = Engine(loaded, max_rows=max_rows)
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


def _options(model: Model, torch: Any) -> dict[str, Any]:
    """What `load` is told of a model's registry entry."""
    speed = asdict(model.speed)
    dtype = getattr(torch, speed.pop("dtype"))
    return speed | {"dtype": dtype, "loras": model.loras, "controlnets": model.controlnets}


def _quieten() -> None:
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
