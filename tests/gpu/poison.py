"""A program whose forward poisons the device; it exits with 3 on DeviceLost."""

from __future__ import annotations

import sys

import torch

from tests.unit.workers.engine.reference import engine_of, request
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import DeviceLost
from workers.pipelines.model import wrap

pipeline = FAMILIES["sd"]().to("cuda")


def read_out_of_bounds(module: torch.nn.Module, args: object, answer: object) -> None:
    """Read outside a tensor on the device, so that a kernel asserts."""
    del module, args, answer
    torch.zeros(2, device="cuda")[torch.full((1,), 5, device="cuda")]


pipeline.unet.register_forward_hook(read_out_of_bounds)
engine = engine_of({"sd": wrap(pipeline, name="sd")})
engine.add(request("poison"))
engine.add(request("other"))
try:
    while not engine.idle:
        engine.step()
except DeviceLost as lost:
    sys.stderr.write(f"{lost}\n")
    sys.exit(3)
