"""Model: a pipeline whose modules park, with a shallow view for each job."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from workers.engine.encoder_cache import LIMIT_BYTES
from workers.engine.park import Proxy
from workers.engine.request import BadRequest
from workers.engine.rows import ModuleMethod
from workers.engine.swapper import Weights
from workers.pipelines import calling, families, schedulers
from workers.pipelines.adapters import LoraAdapters
from workers.pipelines.autoencoder import AutoencoderProxy
from workers.pipelines.decoder import SmallDecoder
from workers.pipelines.graphs import CudaGraphs
from workers.pipelines.preview import Colours
from workers.pipelines.view import PipelineView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from workers.engine.request import Request

DENOISERS = ("unet", "transformer")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A pipeline whose modules park, for each task that it offers, and its schedulers by name.

    Width and height must be multiples of `size_multiple` pixels. `controlled` has the tasks of each
    ControlNet. A model that is not `batched` runs one job at a time.
    """

    name: str
    tasks: dict[str, Any]
    schedulers: dict[str | None, Any]
    size_multiple: int
    adapters: LoraAdapters | None = None
    controlled: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    batched: bool = True
    unbatched: Callable[[], LoadedModel] | None = None
    colours: Callable[[], Colours | None] | None = None
    weights: Weights = field(default_factory=lambda: Weights(()))
    memo_bytes: int = LIMIT_BYTES

    def view(self, request: Request) -> PipelineView:
        """Return a job's view of the pipeline; raise BadRequest."""
        request.check()
        task, tasks = calling.task(request), self._tasks(request)
        if task not in tasks:
            raise BadRequest("unsupported_task", "model", f"{self.name} cannot do {task}")
        for side in ("width", "height"):
            if getattr(request, side) % self.size_multiple:
                message = f"{side} must be a multiple of {self.size_multiple}"
                raise BadRequest("bad_size", side, message)
        self._fetch(request)
        pipeline = copy.copy(tasks[task])
        vars(pipeline)["scheduler"] = self._scheduler(request)
        pipeline.set_progress_bar_config(disable=True)
        return PipelineView(pipeline, calling.arguments(pipeline, request), request, self.colours)

    def unbatched_model(self) -> LoadedModel:
        """Return the same model, unbatched.

        No call shares a forward, and one job runs at a time.
        """
        return self if self.unbatched is None else self.unbatched()

    def _tasks(self, request: Request) -> dict[str, Any]:
        if request.controlnet is None:
            return self.tasks
        if request.controlnet not in self.controlled:
            message = f"{self.name} has no ControlNet {request.controlnet!r}"
            raise BadRequest("unknown_controlnet", "controlnet", message)
        return self.controlled[request.controlnet]

    def _fetch(self, request: Request) -> None:
        known = self.adapters.names if self.adapters else []
        names = [name for name, _ in request.loras]
        if unknown := set(names) - set(known):
            message = f"{self.name} has no LoRA {', '.join(sorted(unknown))}"
            raise BadRequest("unknown_lora", "loras", message)
        if self.adapters and names:
            self.adapters.fetch(names)

    def _scheduler(self, request: Request) -> Any:
        if request.scheduler not in self.schedulers:
            names = ", ".join(sorted(name for name in self.schedulers if name))
            message = f"{self.name} has no scheduler {request.scheduler!r}, but: {names}"
            raise BadRequest("unknown_scheduler", "scheduler", message)
        scheduler = schedulers.for_job(self.schedulers[request.scheduler])
        if not scheduler.config.get("use_dynamic_shifting"):  # which depends on the size
            try:
                scheduler.set_timesteps(request.num_inference_steps)
            except (ValueError, IndexError) as error:
                raise BadRequest("bad_steps", "num_inference_steps", str(error)) from error
        return scheduler


def wrap(
    pipeline: Any,
    *,
    name: str,
    loras: Mapping[str, Path] | None = None,
    controlnets: Mapping[str, Any] | None = None,
    batched: bool = True,
    bucketed: bool = False,
    colours: Callable[[], Colours | None] | None = None,
    decoder: Any = None,
    loras_kept: int = 16,
    memo_bytes: int = LIMIT_BYTES,
    graphs: bool = False,
) -> LoadedModel:
    """Prepare a pipeline that is already in memory for the engine.

    `decoder` is an AutoencoderTiny that decodes in place of the pipeline's own autoencoder. With
    `graphs`, forwards on CUDA are captured and replayed.
    """
    modules = _modules(pipeline)
    denoiser = next((part for part in DENOISERS if part in modules), "")
    parts = _Parts(
        pipeline,
        name,
        modules,
        denoiser,
        LoraAdapters(pipeline, denoiser, loras, loras_kept) if loras else None,
        controlnets or {},
        colours or _colours(pipeline, modules),
        decoder,
        memo_bytes,
        [] if graphs else None,
    )
    return _assemble(parts, batched=batched, bucketed=bucketed)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a model, independent of how it is served."""

    pipeline: Any
    name: str
    modules: Mapping[str, Any]
    denoiser: str
    """Its name in the pipeline; empty if it has none."""
    adapters: LoraAdapters | None
    controlnets: Mapping[str, Any]
    colours: Callable[[], Colours | None] | None
    decoder: Any
    memo_bytes: int
    captured: list[CudaGraphs] | None
    """Replays its forwards as CUDA graphs; None if kernels are launched one by one."""

    @property
    def weights(self) -> Weights:
        """All modules that must be on the device."""
        modules = [*self.modules.values(), *self.controlnets.values()]
        further = (self.decoder, self.adapters and self.adapters.module)
        modules += [module for module in further if module is not None]
        return Weights(modules, self.forget)

    def forget(self) -> None:
        """Free all captured forwards."""
        for graphs in self.captured or []:
            graphs.forget()

    def faster(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function to call in place of `run`."""
        if self.captured is None:
            return run
        self.captured.append(CudaGraphs(run, self.forget))
        return self.captured[-1]


def _assemble(parts: _Parts, *, batched: bool, bucketed: bool = False) -> LoadedModel:
    """Put proxies in the place of the modules, for each task and each ControlNet."""
    pipeline, name = parts.pipeline, parts.name
    parts.forget()  # captures of the model's other variant
    options = _options(parts, bucketed=bucketed, unbatched=not batched)
    proxies = {
        part: _proxy(name, part, made, **options[part]) for part, made in parts.modules.items()
    }
    controlled = {
        net: _controlled(
            pipeline,
            proxies,
            _proxy(
                name,
                net,
                module,
                role="control",
                faster=parts.faster,
                captured=parts.captured is not None,
                unbatched=not batched,
            ),
        )
        for net, module in parts.controlnets.items()
    }
    return LoadedModel(
        name,
        families.tasks(pipeline, proxies),
        schedulers.build(pipeline.scheduler),
        _size_multiple(pipeline, parts.modules),
        parts.adapters,
        controlled,
        batched,
        functools.partial(_assemble, parts, batched=False, bucketed=bucketed),
        parts.colours,
        parts.weights,
        parts.memo_bytes,
    )


def _modules(pipeline: Any) -> dict[str, Any]:
    """The modules that compute, by their names in the pipeline."""
    return {
        part: module
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }


def _options(parts: _Parts, *, bucketed: bool, unbatched: bool) -> dict[str, dict[str, Any]]:
    """Return how each module's calls run: batched or not, and the options of some modules."""
    options: dict[str, dict[str, Any]] = {
        part: {
            "unbatched": unbatched,
            "faster": parts.faster,
            "captured": parts.captured is not None,
        }
        for part in parts.modules
    }
    if parts.denoiser:
        options[parts.denoiser]["bucketed"] = bucketed
    if adapters := parts.adapters:
        options[parts.denoiser]["activate"] = adapters.activate
        options[parts.denoiser]["faster"] = lambda run: adapters.either(
            parts.faster(run), parts.forget
        )
    if parts.decoder is not None:
        options["vae"]["decode"] = SmallDecoder(parts.decoder, parts.pipeline.vae).decode
    return options


def _colours(pipeline: Any, modules: Mapping[str, Any]) -> Callable[[], Colours | None] | None:
    """Return the preview's colour map, fitted at first use.

    By then the autoencoder is on its device.
    """
    if "vae" not in modules:
        return None
    return functools.cache(
        functools.partial(Colours.fit, modules["vae"], pipeline.vae_scale_factor)
    )


def _size_multiple(pipeline: Any, modules: Mapping[str, Any]) -> int:
    """Return the number that divides each side of a picture, in pixels.

    Transformers take latents in patches of 2 x 2; pipelines with a UNet require multiples of 8
    pixels.
    """
    return math.lcm(8, pipeline.vae_scale_factor * (2 if "transformer" in modules else 1))


def _controlled(pipeline: Any, proxies: dict[str, Proxy], net: Proxy) -> dict[str, Any]:
    """Make the tasks again, with a ControlNet."""
    return families.tasks(pipeline, {**proxies, "controlnet": net}, "-controlnet")


def _proxy(
    model: str,
    part: str,
    module: Any,
    *,
    role: str = "",
    decode: Callable[..., Any] | None = None,
    faster: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda run: run,
    **options: Any,
) -> Proxy:
    if hasattr(module, "encode") and hasattr(module, "decode"):
        encode, decoding = faster(module.encode), faster(decode or module.decode)
        return AutoencoderProxy(
            module,
            {
                "encode": ModuleMethod.of(f"{model}.{part}.encode", "encoder", encode, **options),
                "decode": ModuleMethod.of(f"{model}.{part}.decode", "decoder", decoding, **options),
            },
        )
    role = role or ("denoiser" if part in DENOISERS else "encoder")
    run = faster(module)
    return Proxy(
        module, {"forward": ModuleMethod.of(f"{model}.{part}.forward", role, run, **options)}
    )
