"""Rows: which calls may share a forward, how they are batched, and how the result is split.

Arguments and results are trees of tuples, lists, dicts and model outputs. A tensor whose first
dimension is the call's number of rows is concatenated. All other values are shared by the group, so
they must be equal in all of its calls.

The bits of a row depend on the number of rows of its forward and, on some devices, on its position
among them. So a reproducible call shares no forward: it runs in parts of at most
`REPRODUCIBLE_ROWS` rows.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Sequence

# Position ids have no batch dimension; their length can equal the number of rows by accident.
SHARED = frozenset({"img_ids", "txt_ids"})
# The most rows of a reproducible forward, by role. A job of many pictures needs no more memory than
# one of two pictures. Encoders and decoders run one row at a time.
REPRODUCIBLE_ROWS = {"denoiser": 4, "control": 4}


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """A job's options for its forwards; calls share a forward only if their options are equal."""

    reproducible: bool = False
    loras: tuple[tuple[str, float], ...] = ()


PLAIN = ForwardOptions()


@dataclass(frozen=True, slots=True, eq=False)
class ModuleMethod:
    """One compute method of a loaded module.

    `key` is its name: model, component, method. `role` is `encoder`, `denoiser`, `control` (a
    ControlNet) or `decoder`. `activate` sets the LoRAs of the next forward. An `unbatched` method
    may mix its rows, so its calls share no forward: one job of its model is in flight at a time. A
    `bucketed` method is compiled: unless it is unbatched, its forwards are padded to a power of two
    of rows. The first forward of each size of a `captured` method takes several times as long as
    the others, because it captures a CUDA graph.
    """

    key: str
    role: str
    run: Callable[..., Any]
    parameters: inspect.Signature
    activate: Callable[[tuple[tuple[str, float], ...]], None] | None = None
    unbatched: bool = False
    bucketed: bool = False
    captured: bool = False

    def same_bucket(self, rows: int) -> Container[int]:
        """Return the numbers of rows that run in forwards of the same size as `rows`."""
        most = bucket(rows)
        return range(most // 2 + 1, most + 1) if self.bucketed and not self.unbatched else (rows,)

    @classmethod
    def of(cls, key: str, role: str, run: Callable[..., Any], **options: Any) -> ModuleMethod:
        """Describe the bound method or module `run`."""
        forward = run.forward if isinstance(run, torch.nn.Module) else run
        return cls(key, role, run, inspect.signature(forward), **options)


@dataclass(slots=True, eq=False)
class Call:
    """A call of `method` with `rows` rows; calls with equal `signature` can share a forward."""

    method: ModuleMethod
    options: ForwardOptions
    arguments: dict[str, Any]
    rows: int
    signature: Hashable
    device_s: float = 0.0

    @classmethod
    def bind(
        cls,
        method: ModuleMethod,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ForwardOptions = PLAIN,
    ) -> Call:
        """Bind the arguments to their names, give each row its timestep, compute the signature."""
        arguments = dict(method.parameters.bind(*args, **kwargs).arguments)
        first = _first_tensor(arguments)
        rows = 1 if first is None else len(first)
        if first is not None and arguments.get("timestep") is not None:
            # Always float32, so that all schedulers can share a forward.
            timestep = torch.as_tensor(arguments["timestep"], dtype=torch.float32)
            timestep = timestep.to(first.device, non_blocking=True)
            arguments["timestep"] = timestep.reshape(-1).expand(rows)
        if options.loras and method.activate is None:
            options = ForwardOptions(options.reproducible)
        signature = (method.key, options, _signature("", arguments, rows))
        return cls(method, options, arguments, rows, signature)

    @property
    def plain(self) -> bool:
        """Whether it has no LoRAs: forwards with LoRAs are neither compiled nor captured."""
        return not self.options.loras

    @property
    def device(self) -> torch.device:
        """The device of the call's tensors."""
        first = _first_tensor(self.arguments)
        return torch.device("cpu") if first is None else first.device

    def split(self) -> tuple[Call, Call]:
        """Split a call of two or more rows in two."""
        middle = self.rows // 2
        return self._part(0, middle), self._part(middle, self.rows)

    def _part(self, start: int, stop: int) -> Call:
        arguments = _slice(self.arguments, start, stop, self.rows)
        return Call(self.method, self.options, arguments, stop - start, self.signature)


def run(calls: Sequence[Call]) -> list[Any]:
    """Run calls with one signature as one forward; return the result of each call."""
    sizes = [call.rows for call in calls]
    method, total = calls[0].method, sum(sizes)
    if method.activate is not None:
        method.activate(calls[0].options.loras)
    if calls[0].options.reproducible:
        return [_run_in_fixed_parts(call) for call in calls]
    result = _forward(calls[0], join([call.arguments for call in calls], sizes), total)
    start, results = 0, []
    for size in sizes:
        results.append(_slice(result, start, start + size, total))
        start += size
    return results


def bucket(rows: int) -> int:
    """Return the power of two to which a compiled method pads this many rows."""
    return 1 << (rows - 1).bit_length()


def _forward(call: Call, arguments: dict[str, Any], size: int) -> Any:
    """Run `size` rows with the call's options, padded to a bucket if the method is compiled."""
    method = call.method
    padded = bucket(size) if method.bucketed and call.plain and not method.unbatched else size
    bound = inspect.BoundArguments(method.parameters, pad(arguments, size, padded))
    return _slice(method.run(*bound.args, **bound.kwargs), 0, size, padded)


def _run_in_fixed_parts(call: Call) -> Any:
    """Run a call in forwards whose sizes depend on this call only."""
    most = REPRODUCIBLE_ROWS.get(call.method.role, 1)
    sizes = [min(most, call.rows - start) for start in range(0, call.rows, most)]
    parts, start = [], 0
    for size in sizes:
        part = _slice(call.arguments, start, start + size, call.rows)
        parts.append(_forward(call, part, size))
        start += size
    return join(parts, sizes)


def pad(tree: Any, size: int, rows: int) -> Any:
    """Pad a tree of `size` rows to `rows` with copies of its first row."""

    def fill(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if size == rows or not _has_rows(name, tensor, size):
            return tensor
        return torch.cat([tensor, tensor[:1].expand(rows - size, *tensor.shape[1:])])

    return map_tensors(fill, tree)


def join(trees: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Concatenate trees of `sizes` rows; shared values are taken from the first tree."""

    def concatenate(name: str, *tensors: torch.Tensor) -> torch.Tensor:
        if len(tensors) == 1 or not _has_rows(name, tensors[0], sizes[0]):
            return tensors[0]
        return torch.cat(tensors)

    return map_tensors(concatenate, *trees)


def exact_key(call: Call) -> Hashable:
    """Return a key that is equal only for calls whose values are all equal."""
    return call.method.key, call.options, _signature("", call.arguments, rows=-1)


def map_tensors(function: Callable[..., Any], *trees: Any, name: str = "") -> Any:
    """Return a tree like the first one with each tensor replaced by `function(name, *tensors)`.

    `name` is the nearest name above the tensor: an argument, a key or a field.
    """
    first = trees[0]
    if isinstance(first, torch.Tensor):
        return function(name, *trees)
    if isinstance(first, DiagonalGaussianDistribution):
        parameters = function("parameters", *(tree.parameters for tree in trees))
        return DiagonalGaussianDistribution(parameters, deterministic=first.deterministic)
    if isinstance(first, Mapping):  # model outputs are mappings too
        return type(first)(
            **{
                key: map_tensors(function, *(tree[key] for tree in trees), name=key)
                for key in first
            }
        )
    if isinstance(first, list | tuple):
        parts = zip(*trees, strict=True)
        return type(first)(map_tensors(function, *part, name=name) for part in parts)
    return first


def _slice(tree: Any, start: int, stop: int, total: int) -> Any:
    def take(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[start:stop] if _has_rows(name, tensor, total) else tensor

    return map_tensors(take, tree)


def _has_rows(name: str, tensor: torch.Tensor, rows: int) -> bool:
    return tensor.ndim > 0 and tensor.shape[0] == rows and name not in SHARED


def _first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor: by convention, its first dimension is the number of rows."""
    if isinstance(value, torch.Tensor):
        return value if value.ndim > 0 else None
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple):
        return next((found for part in parts if (found := _first_tensor(part)) is not None), None)
    return None


def _signature(name: str, value: Any, rows: int) -> Hashable:
    if isinstance(value, torch.Tensor):
        if _has_rows(name, value, rows):
            return "rows", tuple(value.shape[1:]), value.dtype
        return "shared", _digest(value)
    if isinstance(value, Mapping):
        return "map", tuple((key, _signature(key, part, rows)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return "list", tuple(_signature(name, part, rows) for part in value)
    if value is None or isinstance(value, bool | int | float | str):
        return type(value).__name__, value
    # A value that cannot be compared (a generator, a callback) ties the call to its job.
    return "object", id(value)


_digests: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _digest(tensor: torch.Tensor) -> Hashable:
    """Return shape, dtype and a hash of the values, cached while the tensor lives.

    Pipelines pass the same tensor at each step, so one read from the device is enough.
    """
    version, digest = _digests.get(tensor, (None, None))  # type: ignore[no-untyped-call]
    if version != tensor._version:  # noqa: SLF001 - how torch counts edits in place
        values = tensor.detach().reshape(-1).cpu().contiguous().view(torch.uint8)
        digest = hashlib.sha1(values.numpy().tobytes(), usedforsecurity=False).digest()
        _digests[tensor] = (tensor._version, digest)  # noqa: SLF001
    return tuple(tensor.shape), tensor.dtype, digest
