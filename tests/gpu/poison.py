"""A program whose device is poisoned by a forward of its own; exits 3 when the engine says so."""

from __future__ import annotations

import sys

import torch

from tests.unit.workers.engine.reference import engine_of, request
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import DeviceLost
from workers.pipelines.model import wrap

pipeline = FAMILIES["sd"]().to("cuda")


def beyond(module: torch.nn.Module, args: object, answer: object) -> None:
    """Read outside a tensor, on the device: its kernels assert."""
    del module, args, answer
    torch.zeros(2, device="cuda")[torch.full((1,), 5, device="cuda")]


pipeline.unet.register_forward_hook(beyond)
engine = engine_of({"sd": wrap(pipeline, name="sd")})
engine.add(request("poison"))
engine.add(request("mate"))
try:
    while not engine.idle:
        engine.step()
except DeviceLost as lost:
    sys.stderr.write(f"{lost}\n")
    sys.exit(3)
