"""Model: a pipeline whose modules are proxies that park; each job gets a shallow copy of it."""

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
from workers.pipelines import arguments, families, schedulers
from workers.pipelines.autoencoder import AutoencoderProxy
from workers.pipelines.cuda_graphs import CudaGraphs
from workers.pipelines.decoder import SmallDecoder
from workers.pipelines.lora_adapters import LoraAdapters
from workers.pipelines.preview import Colours
from workers.pipelines.view import PipelineView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from workers.engine.request import Request

DENOISERS = ("unet", "transformer")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedModel:
    """A pipeline for each task of the model, on the same proxies, and the schedulers by name.

    Width and height must be multiples of `size_multiple` pixels. `controlnet_tasks` has the tasks
    of each ControlNet. A model that is not `batched` is served one job at a time.
    """

    name: str
    tasks: dict[str, Any]
    schedulers: dict[str | None, Any]
    size_multiple: int
    adapters: LoraAdapters | None = None
    controlnet_tasks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    batched: bool = True
    unbatched: Callable[[], LoadedModel] | None = None
    colours: Callable[[], Colours | None] | None = None
    weights: Weights = field(default_factory=lambda: Weights(()))
    encoder_cache_bytes: int = LIMIT_BYTES

    def view(self, request: Request) -> PipelineView:
        """Return a job's view of the pipeline; raise BadRequest if the model cannot serve it."""
        request.check()
        task, tasks = arguments.task(request), self._tasks(request)
        if task not in tasks:
            raise BadRequest("unsupported_task", "model", f"{self.name} cannot do {task}")
        for side in ("width", "height"):
            if getattr(request, side) % self.size_multiple:
                message = f"{side} must be a multiple of {self.size_multiple}"
                raise BadRequest("bad_size", side, message)
        self._load_loras(request)
        pipeline = copy.copy(tasks[task])
        vars(pipeline)["scheduler"] = self._scheduler(request)
        pipeline.set_progress_bar_config(disable=True)
        return PipelineView(pipeline, arguments.build(pipeline, request), request, self.colours)

    def unbatched_model(self) -> LoadedModel:
        """Return the same model, served one job at a time: no call shares a forward."""
        return self if self.unbatched is None else self.unbatched()

    def _tasks(self, request: Request) -> dict[str, Any]:
        if request.controlnet is None:
            return self.tasks
        if request.controlnet not in self.controlnet_tasks:
            message = f"{self.name} has no ControlNet {request.controlnet!r}"
            raise BadRequest("unknown_controlnet", "controlnet", message)
        return self.controlnet_tasks[request.controlnet]

    def _load_loras(self, request: Request) -> None:
        known = self.adapters.names if self.adapters else []
        names = [name for name, _ in request.loras]
        if unknown := set(names) - set(known):
            message = f"{self.name} has no LoRA {', '.join(sorted(unknown))}"
            raise BadRequest("unknown_lora", "loras", message)
        if self.adapters and names:
            self.adapters.load(names)

    def _scheduler(self, request: Request) -> Any:
        if request.scheduler not in self.schedulers:
            names = ", ".join(sorted(name for name in self.schedulers if name))
            message = f"{self.name} has no scheduler {request.scheduler!r}, only {names}"
            raise BadRequest("unknown_scheduler", "scheduler", message)
        scheduler = schedulers.for_job(self.schedulers[request.scheduler])
        if not scheduler.config.get("use_dynamic_shifting"):  # that needs the size too
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
    encoder_cache_bytes: int = LIMIT_BYTES,
    graphs: bool = False,
) -> LoadedModel:
    """Adapt a pipeline that is already in memory to the engine.

    `decoder` is an AutoencoderTiny that decodes instead of the pipeline's own autoencoder. With
    `bucketed`, forwards of the denoiser are padded to a power of two of rows. With `graphs`,
    forwards on CUDA are captured and replayed.
    """
    modules = _modules(pipeline)
    denoiser = next((part for part in DENOISERS if part in modules), "")
    parts = _Parts(
        pipeline=pipeline,
        name=name,
        modules=modules,
        denoiser=denoiser,
        adapters=LoraAdapters(pipeline, denoiser, loras, loras_kept) if loras else None,
        controlnets=controlnets or {},
        colours=colours or _colours(pipeline, modules),
        decoder=decoder,
        encoder_cache_bytes=encoder_cache_bytes,
        graphs=[] if graphs else None,
    )
    return _assemble(parts, batched=batched, bucketed=bucketed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts of a model, which are the same whether it is batched or not."""

    pipeline: Any
    name: str
    modules: Mapping[str, Any]
    denoiser: str
    """Its name in the pipeline; empty if it has none."""
    adapters: LoraAdapters | None
    controlnets: Mapping[str, Any]
    colours: Callable[[], Colours | None] | None
    decoder: Any
    encoder_cache_bytes: int
    graphs: list[CudaGraphs] | None
    """The CUDA graphs of all methods; None if kernels are launched one by one."""

    @property
    def weights(self) -> Weights:
        """All modules that must be on the device."""
        modules = [*self.modules.values(), *self.controlnets.values()]
        extras = (self.decoder, self.adapters and self.adapters.module)
        modules += [module for module in extras if module is not None]
        return Weights(modules, self.clear_graphs)

    def clear_graphs(self) -> None:
        """Drop all captured forwards."""
        for graphs in self.graphs or []:
            graphs.clear()

    def with_graphs(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return `run`, captured and replayed as CUDA graphs if the model uses them."""
        if self.graphs is None:
            return run
        self.graphs.append(CudaGraphs(run, self.clear_graphs))
        return self.graphs[-1]

    def options(self, *, unbatched: bool) -> dict[str, Any]:
        """Return the options of every method, as `_proxy` takes them."""
        return {
            "unbatched": unbatched,
            "accelerate": self.with_graphs,
            "captured": self.graphs is not None,
        }


def _assemble(parts: _Parts, *, batched: bool, bucketed: bool = False) -> LoadedModel:
    """Replace the modules by proxies, for each task and each ControlNet."""
    pipeline, name = parts.pipeline, parts.name
    parts.clear_graphs()  # those of an earlier assembly, such as the probe's, are not used again
    options = _options(parts, bucketed=bucketed, unbatched=not batched)
    proxies = {
        part: _proxy(name, part, module, **options[part]) for part, module in parts.modules.items()
    }
    controlnet_options = parts.options(unbatched=not batched)
    controlnet_tasks = {
        net: _controlnet_tasks(
            pipeline, proxies, _proxy(name, net, module, role="control", **controlnet_options)
        )
        for net, module in parts.controlnets.items()
    }
    return LoadedModel(
        name=name,
        tasks=families.tasks(pipeline, proxies),
        schedulers=schedulers.build(pipeline.scheduler),
        size_multiple=_size_multiple(pipeline, parts.modules),
        adapters=parts.adapters,
        controlnet_tasks=controlnet_tasks,
        batched=batched,
        unbatched=functools.partial(_assemble, parts, batched=False, bucketed=bucketed),
        colours=parts.colours,
        weights=parts.weights,
        encoder_cache_bytes=parts.encoder_cache_bytes,
    )


def _modules(pipeline: Any) -> dict[str, Any]:
    """Return the pipeline's modules by name."""
    return {
        part: module
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }


def _options(parts: _Parts, *, bucketed: bool, unbatched: bool) -> dict[str, dict[str, Any]]:
    """Return the options of each module's methods, as `_proxy` takes them."""
    options = {part: parts.options(unbatched=unbatched) for part in parts.modules}
    if parts.denoiser:
        options[parts.denoiser]["bucketed"] = bucketed
    if adapters := parts.adapters:
        options[parts.denoiser]["activate"] = adapters.activate
        options[parts.denoiser]["accelerate"] = lambda run: adapters.wrap_denoiser(
            parts.with_graphs(run), parts.clear_graphs
        )
    if parts.decoder is not None:
        options["vae"]["decode"] = SmallDecoder(parts.decoder, parts.pipeline.vae).decode
    return options


def _colours(pipeline: Any, modules: Mapping[str, Any]) -> Callable[[], Colours | None] | None:
    """Return a function that fits the preview's colours at its first call, on the device."""
    if "vae" not in modules:
        return None
    return functools.cache(
        functools.partial(Colours.fit, modules["vae"], pipeline.vae_scale_factor)
    )


def _size_multiple(pipeline: Any, modules: Mapping[str, Any]) -> int:
    """Return the divisor of each side of a picture, in pixels.

    Transformers take latents in patches of 2 x 2; pipelines with a UNet require 8 pixels.
    """
    return math.lcm(8, pipeline.vae_scale_factor * (2 if "transformer" in modules else 1))


def _controlnet_tasks(pipeline: Any, proxies: dict[str, Proxy], net: Proxy) -> dict[str, Any]:
    """Return the pipelines for each task with a ControlNet."""
    return families.tasks(pipeline, {**proxies, "controlnet": net}, "-controlnet")


def _proxy(
    model: str,
    part: str,
    module: Any,
    *,
    role: str = "",
    decode: Callable[..., Any] | None = None,
    accelerate: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda run: run,
    **options: Any,
) -> Proxy:
    if hasattr(module, "encode") and hasattr(module, "decode"):
        encode, decoding = accelerate(module.encode), accelerate(decode or module.decode)
        return AutoencoderProxy(
            module,
            {
                "encode": ModuleMethod.of(f"{model}.{part}.encode", "encoder", encode, **options),
                "decode": ModuleMethod.of(f"{model}.{part}.decode", "decoder", decoding, **options),
            },
        )
    role = role or ("denoiser" if part in DENOISERS else "encoder")
    run = accelerate(module)
    return Proxy(
        module, {"forward": ModuleMethod.of(f"{model}.{part}.forward", role, run, **options)}
    )
