"""Fixtures: one thread for torch, and the tiny pipelines, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.pipelines.model import LoadedModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: tiny tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def stock() -> dict[str, Any]:
    """Return each family's stock pipeline."""
    return {name: build() for name, build in FAMILIES.items()}


@pytest.fixture(scope="session")
def models(stock: dict[str, Any]) -> dict[str, LoadedModel]:
    """Return the same pipelines, adapted to the engine."""
    return {name: wrap(pipeline, name=name) for name, pipeline in stock.items()}


@pytest.fixture
def hook_denoiser(stock: dict[str, Any]) -> Iterator[Callable[[Callable[..., Any]], None]]:
    """Return a function that registers a hook for the sample of each forward of the `sd` UNet."""
    handles = []

    def hook(function: Callable[..., Any]) -> None:
        handles.append(
            stock["sd"].unet.register_forward_pre_hook(
                lambda _, args, kwargs: function(kwargs.get("sample", args[0] if args else None)),
                with_kwargs=True,
            )
        )

    yield hook
    for handle in handles:
        handle.remove()
