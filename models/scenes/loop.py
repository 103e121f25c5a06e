"""The training loop of all stages: rate, averages, checkpoints, progress, workers."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed
from torch import Tensor, nn
from tqdm import tqdm

from models.scenes.denoiser import Average
from models.scenes.precision import autocast, fastest

if TYPE_CHECKING:
    from pathlib import Path


class Course(Protocol):
    """One training stage."""

    name: str
    model: nn.Module
    """The module to train: those of its parameters that require gradients."""

    def loss(self, step: int) -> Tensor:
        """Return the loss of one fresh batch, a scalar."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The length of a stage and its learning rate."""

    steps: int
    batch: int
    """Samples per step and worker."""
    rate: float
    """Of AdamW, reached after `warm_up` steps; it falls to zero from `falls_from` of the stage on.
    """
    weight_decay: float = 0.01
    warm_up: int = 100
    falls_from: float = 0.4
    save_every: int = 500

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        falling = (self.steps - step) / max(1.0, (1 - self.falls_from) * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warm_up, max(falling, 0.01))


MEET_EVERY = 4
"""Steps between two averages of the workers' weights (local SGD, arXiv:1805.09767).

On a shared processor, workers that meet at every step would wait for each other half of the time.
"""


@torch.no_grad()
def meet(parameters: list[nn.Parameter]) -> None:
    """Give all workers the mean of their weights."""
    if not torch.distributed.is_initialized():
        return
    shared = torch.cat([parameter.reshape(-1) for parameter in parameters])
    torch.distributed.all_reduce(shared)
    shared /= torch.distributed.get_world_size()
    parts = torch.split(shared, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view(parameter.shape))


class Trainer:
    """A running stage: its optimiser, average and position in the plan, stored in one file."""

    def __init__(self, course: Course, plan: Plan, folder: Path, seed: int) -> None:
        self.course, self.plan, self.seed = course, plan, seed
        self.file, self.log = folder / f"{course.name}.pt", folder / f"{course.name}.jsonl"
        self.parameters = [p for p in course.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            plan.rate,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self.average = Average(self.parameters)
        self.device = self.parameters[0].device
        shared = torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if shared else 0
        self.workers = torch.distributed.get_world_size() if shared else 1
        self.step = 0
        if self.file.exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.file, map_location=self.device)
        self.course.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.weights, self.step = state["average"], state["step"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all; one worker writes for all."""
        if self.rank:
            return
        state = {
            "model": self.course.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.weights,
            "step": self.step,
        }
        torch.save(state, self.file.with_suffix(".new"))
        self.file.with_suffix(".new").replace(self.file)

    def run(self) -> None:
        """Train from the last checkpoint to the plan's end; the model then holds the average."""
        if self.step < self.plan.steps:
            self._teach()
        self.average.apply()

    def _teach(self) -> None:
        torch.manual_seed(self.seed + 1_000_003 * self.step + self.rank)
        dtype = self._dtype()
        bar = tqdm(
            total=self.plan.steps,
            initial=self.step,
            desc=self.course.name,
            unit="step",
            disable=self.rank > 0,
        )
        losses: list[Tensor] = []
        while self.step < self.plan.steps:
            losses.append(self._learn(dtype))
            bar.update()
            if self.step % 100 == 0:
                self._note(losses, bar)
                losses = []
            if self.step % self.plan.save_every == 0:
                self.save()
        bar.close()
        self.save()

    def _dtype(self) -> torch.dtype:
        """One worker measures, and all use its result."""
        choice = fastest(self.device)
        if torch.distributed.is_initialized():
            votes = torch.tensor(float(choice == torch.bfloat16))
            torch.distributed.broadcast(votes, 0)
            choice = torch.bfloat16 if votes.item() else torch.float32
        return choice

    def _learn(self, dtype: torch.dtype) -> Tensor:
        """Take one step; the loss stays on the device: reading it would wait for the step's end."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        self.optimizer.zero_grad()
        with autocast(self.device, dtype):
            loss = self.course.loss(self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        if self.step % MEET_EVERY == 0 or self.step == self.plan.steps:
            meet(self.parameters)
            self.average.update(self.step // MEET_EVERY)
        return loss.detach()

    def _note(self, losses: list[Tensor], bar: Any) -> None:
        if self.rank:
            return
        loss = float(torch.stack(losses).mean())
        bar.set_postfix(loss=f"{loss:.4f}")
        samples = self.step * self.plan.batch * self.workers
        line = {
            "step": self.step,
            "samples": samples,
            "loss": round(loss, 5),
            "at": int(time.time()),
        }
        with self.log.open("a") as log:
            log.write(
                json.dumps(line | {"plan": asdict(self.plan)} if self.step == 100 else line) + "\n"
            )
