"""Pipelines: load a diffusers folder once, and give each job a shallow view of it."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.auto_pipeline import (
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    AUTO_INPAINT_PIPELINES_MAPPING,
    AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
)
from PIL.Image import DecompressionBombError, Resampling

from workers.engine import schedulers
from workers.engine.extras import Wardrobe, load_controlnet
from workers.engine.park import AutoencoderProxy, Proxy
from workers.engine.request import BadRequest, EngineError, NotFinite, Request
from workers.engine.rows import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

TASKS = {
    "text-to-image": AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
    "image-to-image": AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    "inpainting": AUTO_INPAINT_PIPELINES_MAPPING,
}
DENOISERS = ("unet", "transformer")
# More than any model draws: a small file must not unfold into gigabytes.
LIMIT_PIXELS = 8192 * 8192


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A pipeline whose modules park, for each task that it can do, and its schedulers by name.

    Width and height must be multiples of `size_multiple` pixels. `controlled` has the tasks of each
    ControlNet. A model that is not `batched` is served one job at a time.
    """

    name: str
    tasks: dict[str, Any]
    schedulers: dict[str | None, Any]
    size_multiple: int
    wardrobe: Wardrobe | None = None
    controlled: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    batched: bool = True
    lone: Callable[[], LoadedModel] | None = None

    def view(self, request: Request) -> tuple[Any, dict[str, Any]]:
        """Return a pipeline for one job, and what to call it with; raise BadRequest.

        The view shares the modules and has a scheduler of its own.
        """
        request.check()
        task, tasks = _task(request), self._tasks(request)
        if task not in tasks:
            raise BadRequest("unsupported_task", "model", f"{self.name} cannot do {task}")
        for side in ("width", "height"):
            if getattr(request, side) % self.size_multiple:
                message = f"{side} must be a multiple of {self.size_multiple}"
                raise BadRequest("bad_size", side, message)
        self._fetch(request)
        view = copy.copy(tasks[task])
        vars(view)["scheduler"] = self._scheduler(request)
        view.set_progress_bar_config(disable=True)
        return view, _arguments(view, request)

    def alone(self) -> LoadedModel:
        """Return the same model, to be served one job at a time: no call shares a forward."""
        return self if self.lone is None else self.lone()

    def _tasks(self, request: Request) -> dict[str, Any]:
        if request.controlnet is None:
            return self.tasks
        if request.controlnet not in self.controlled:
            message = f"{self.name} has no ControlNet {request.controlnet!r}"
            raise BadRequest("unknown_controlnet", "controlnet", message)
        return self.controlled[request.controlnet]

    def _fetch(self, request: Request) -> None:
        known = self.wardrobe.names if self.wardrobe else []
        names = [name for name, _ in request.loras]
        if unknown := set(names) - set(known):
            message = f"{self.name} has no LoRA {', '.join(sorted(unknown))}"
            raise BadRequest("unknown_lora", "loras", message)
        if self.wardrobe and names:
            self.wardrobe.fetch(names)

    def _scheduler(self, request: Request) -> Any:
        if request.scheduler not in self.schedulers:
            names = ", ".join(sorted(name for name in self.schedulers if name))
            message = f"{self.name} has no scheduler {request.scheduler!r}, but: {names}"
            raise BadRequest("unknown_scheduler", "scheduler", message)
        scheduler = schedulers.for_job(self.schedulers[request.scheduler])
        if not scheduler.config.get("use_dynamic_shifting"):  # that needs the size too
            try:
                scheduler.set_timesteps(request.num_inference_steps)
            except (ValueError, IndexError) as error:
                raise BadRequest("bad_steps", "num_inference_steps", str(error)) from error
        return scheduler


def load(
    folder: Path,
    *,
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    loras: Mapping[str, Path] | None = None,
    controlnets: Mapping[str, Path] | None = None,
    vae_tiling: bool = False,
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002 - torch's word
    attention: str = "",
) -> LoadedModel:
    """Load a diffusers folder onto `device`. Nothing is fetched from a hub.

    `vae_tiling` encodes and decodes large pictures in overlapping tiles, as diffusers does.
    `attention` names one of diffusers' attention backends. `compile` compiles the denoiser, whose
    forwards are then filled up to a power of two of rows, so that few sizes are ever compiled.
    """
    parts = json.loads((folder / "model_index.json").read_text())
    absent = {part: None for part in ("safety_checker", "feature_extractor") if part in parts}
    if "requires_safety_checker" in parts:
        absent["requires_safety_checker"] = False  # type: ignore[assignment]
    pipeline = DiffusionPipeline.from_pretrained(
        folder, dtype=dtype, local_files_only=True, **absent
    )
    if dtype == torch.float16 and getattr(pipeline.vae.config, "force_upcast", False):
        # SDXL's autoencoder overflows in fp16. Its pipelines cast it to and fro around each use,
        # which would pull it from under the other jobs: keep it in fp32 instead.
        pipeline.vae.to(torch.float32).register_to_config(force_upcast=False)
    if vae_tiling:
        pipeline.vae.enable_tiling()
    nets = {net: load_controlnet(path, dtype) for net, path in (controlnets or {}).items()}
    pipeline.to(device)
    denoiser = next(getattr(pipeline, part) for part in DENOISERS if part in pipeline.components)
    if channels_last:
        denoiser.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    if attention:
        denoiser.set_attention_backend(attention)
    if compile:
        denoiser.compile(dynamic=False)
    return wrap(
        pipeline,
        name=name,
        loras=loras,
        controlnets={net: module.to(device) for net, module in nets.items()},
        bucketed=compile,
    )


def wrap(
    pipeline: Any,
    *,
    name: str,
    loras: Mapping[str, Path] | None = None,
    controlnets: Mapping[str, Any] | None = None,
    batched: bool = True,
    bucketed: bool = False,
) -> LoadedModel:
    """Make a pipeline that is already in memory ready for the engine."""
    modules: dict[str, Any] = {
        part: module
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }
    denoiser = next((part for part in DENOISERS if part in modules), "")
    wardrobe = Wardrobe(pipeline, denoiser, loras) if loras else None
    options: dict[str, dict[str, Any]] = {part: {"lone": not batched} for part in modules}
    if denoiser:
        options[denoiser]["bucketed"] = bucketed
    if wardrobe:
        options[denoiser]["wear"] = wardrobe.wear
    proxies = {part: _proxy(name, part, modules[part], **options[part]) for part in modules}
    controlled = {
        net: _controlled(pipeline, proxies, _proxy(name, net, module, "control", lone=not batched))
        for net, module in (controlnets or {}).items()
    }
    # Transformers take latents in patches of 2 x 2; pipelines with a UNet insist on 8 pixels.
    tasks = _tasks(pipeline, proxies)
    multiple = pipeline.vae_scale_factor * (2 if "transformer" in modules else 1)
    return LoadedModel(
        name,
        tasks,
        schedulers.build(pipeline.scheduler),
        math.lcm(8, multiple),
        wardrobe,
        controlled,
        batched,
        functools.partial(
            wrap, pipeline, name=name, loras=loras, controlnets=controlnets, batched=False
        ),
    )


def _controlled(pipeline: Any, proxies: dict[str, Proxy], net: Proxy) -> dict[str, Any]:
    """Make the tasks again, steered by a ControlNet."""
    return _tasks(pipeline, {**proxies, "controlnet": net}, "-controlnet")


def render(view: Any, arguments: dict[str, Any]) -> list[NDArray[np.uint8]]:
    """Call the pipeline and return its pictures, equal to those of `output_type="pil"`."""
    images = view(**arguments, output_type="pt").images
    if not torch.isfinite(images).all():
        raise NotFinite("the pixels hold values that are not finite")
    return list((VaeImageProcessor.pt_to_numpy(images) * 255).round().astype(np.uint8))


def _tasks(pipeline: Any, proxies: dict[str, Proxy], variant: str = "") -> dict[str, Any]:
    """Make a pipeline of the same family for each task, of the same modules behind proxies."""
    family, made = _family(pipeline), {}
    kinds = {task: mapping.get(f"{family}{variant}") for task, mapping in TASKS.items()}
    if family is None and not variant:
        kinds["text-to-image"] = type(pipeline)
    for task, kind in kinds.items():
        if kind is not None and _fits(task, pipeline):
            made[task] = _rebuild(kind, pipeline, proxies.get("controlnet"))
            vars(made[task]).update(proxies)
    return made


def _family(pipeline: Any) -> str | None:
    """Return the name under which diffusers' Auto classes know this pipeline's relatives.

    A pipeline that they do not know is taken for text-to-image if it takes a prompt.
    """
    for mapping in TASKS.values():
        for family, kind in mapping.items():
            if kind is type(pipeline):
                return str(family)
    if "prompt" not in inspect.signature(type(pipeline).__call__).parameters:
        raise EngineError(f"{type(pipeline).__name__} takes no prompt: the engine cannot serve it")
    return None


def _rebuild(kind: Any, pipeline: Any, controlnet: Any = None) -> Any:
    """Make a pipeline of another class from the same parts and options, touching no weights."""
    parts = {**pipeline.config, **pipeline.components, "controlnet": controlnet}
    return kind(
        **{part: parts[part] for part in inspect.signature(kind).parameters if part in parts}
    )


def _fits(task: str, pipeline: Any) -> bool:
    """Whether the UNet takes this task's channels; inpainting UNets also take mask and image."""
    unet = getattr(pipeline, "unet", None)
    if unet is None:
        return True
    channels, latent = unet.config.in_channels, pipeline.vae.config.latent_channels
    # The inpainting pipelines count on 4 latent channels.
    return channels in (4, 9) and latent == 4 if task == "inpainting" else channels == latent


def _proxy(model: str, part: str, module: Any, role: str = "", **options: Any) -> Proxy:
    if hasattr(module, "encode") and hasattr(module, "decode"):
        encode = Entry.of(f"{model}.{part}.encode", "encoder", module.encode, **options)
        decode = Entry.of(f"{model}.{part}.decode", "decoder", module.decode, **options)
        return AutoencoderProxy(module, {"encode": encode, "decode": decode})
    role = role or ("denoiser" if part in DENOISERS else "encoder")
    return Proxy(module, {"forward": Entry.of(f"{model}.{part}.forward", role, module, **options)})


def _task(request: Request) -> str:
    if request.image is None:
        return "text-to-image"
    return "image-to-image" if request.mask is None else "inpainting"


def _arguments(view: Any, request: Request) -> dict[str, Any]:
    """Return the keyword arguments of the pipeline call: only those that it knows."""
    seeds = range(request.seed, request.seed + request.num_images)
    size = (request.width, request.height)
    wanted: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "num_images_per_prompt": request.num_images,
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        # One for each picture: from a single one, some pipelines draw all with the first generator.
        "image": _scaled(request.image, "RGB", size, Resampling.LANCZOS, request.num_images),
        "mask_image": _scaled(request.mask, "L", size, Resampling.NEAREST, request.num_images),
        "strength": request.strength,
    }
    known = inspect.signature(type(view).__call__).parameters
    if request.control_image is not None:  # text-to-image pipelines call it `image`
        control = _scaled(request.control_image, "RGB", size, Resampling.LANCZOS, 1)
        wanted["control_image" if "control_image" in known else "image"] = control
        wanted["controlnet_conditioning_scale"] = request.controlnet_conditioning_scale
    if "strength" in known and request.strength is None:
        wanted["strength"] = known["strength"].default
    if "strength" in known and request.num_inference_steps * wanted["strength"] < 1:
        raise BadRequest("out_of_range", "strength", "strength leaves no step to run")
    if "true_cfg_scale" in known:  # guidance is distilled; a negative prompt would go unused
        del wanted["negative_prompt"]
    return {key: value for key, value in wanted.items() if key in known and value is not None}


def _scaled(
    image: Image | None, mode: str, size: tuple[int, int], resampling: Resampling, count: int
) -> list[Image] | None:
    if image is None:
        return None
    field = "mask" if mode == "L" else "image"
    if image.width * image.height > LIMIT_PIXELS:
        message = f"the {field} is too large: {image.width}x{image.height}"
        raise BadRequest("bad_image", field, message)
    try:
        image = image.convert(mode)
    # A lazy file that is cut short, broken, or unfolds into gigabytes.
    except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:
        raise BadRequest("bad_image", field, f"the {field} cannot be read: {error}") from error
    return [image if image.size == size else image.resize(size, resampling)] * count
