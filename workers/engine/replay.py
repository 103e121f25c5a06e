"""Replay: a job's checkpoint is the log of the denoiser's answers so far.

Another engine runs the same pipeline from its start and answers the first calls from the log,
without the denoiser. Everything else (noise, scheduler, guidance) is computed again, so this is
exact for every pipeline and scheduler.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from workers.engine.request import BadCheckpoint

if TYPE_CHECKING:
    from workers.engine.request import Request
    from workers.engine.rows import Call

# The fields of a request that may differ between the attempts of one job.
UNFINGERPRINTED = frozenset({"id", "priority", "exclusive"})

LAYOUTS = {"0": torch.contiguous_format, "1": torch.channels_last}


class ReplayLog:
    """The denoiser's answers to one job, in order; the first ones may come from a checkpoint."""

    def __init__(self, request: Request, checkpoint: bytes | None = None) -> None:
        self._request = request
        self._wrapped = True
        self._answers: list[torch.Tensor] = []
        self._position = 0
        if checkpoint is not None:
            self._unpack(checkpoint)

    @property
    def steps(self) -> int:
        """The number of answered denoiser calls."""
        return len(self._answers)

    @property
    def last(self) -> torch.Tensor | None:
        """The latest answer that the pipeline has received."""
        return self._answers[self._position - 1] if self._position else None

    def replay(self, call: Call) -> Any:
        """Return the logged answer to `call`, or None at the end of the log."""
        if self._position == len(self._answers):
            return None
        if call.method.role == "control":  # only the denoiser would read it
            return [], torch.zeros(())
        if call.method.role != "denoiser":
            return None
        answer = self._answers[self._position].to(call.device)
        return (answer,) if self._wrapped else answer

    def append(self, answer: Any) -> None:
        """Log an answer of the denoiser, unless it is a replayed one."""
        if self._position == len(self._answers):
            self._wrapped = isinstance(answer, tuple)
            # A copy, because the answer is a view that would keep the whole batch in memory.
            self._answers.append((answer[0] if self._wrapped else answer).clone())
        self._position += 1

    def pack(self) -> bytes | None:
        """Return the answers as safetensors, in full precision; None before the first answer."""
        if not self._answers:
            return None
        # A file holds contiguous tensors only. The layout selects kernels, so metadata keeps it.
        tensors = {f"{n:05}": a.cpu().contiguous() for n, a in enumerate(self._answers)}
        metadata = {
            "request": fingerprint(self._request),
            "wrapped": str(int(self._wrapped)),
            "channels_last": str(int(_is_channels_last(self._answers[0]))),
        }
        return bytes(safetensors.torch.save(tensors, metadata))

    def _unpack(self, checkpoint: bytes) -> None:
        try:
            length = int.from_bytes(checkpoint[:8], "little")
            metadata = json.loads(checkpoint[8 : 8 + length])["__metadata__"]
            tensors = safetensors.torch.load(checkpoint)
            request, self._wrapped = metadata["request"], metadata["wrapped"] == "1"
            layout = LAYOUTS[metadata.get("channels_last", "0")]
        except (SafetensorError, ValueError, LookupError, TypeError) as error:
            raise BadCheckpoint(f"cannot read the checkpoint: {error}") from error
        if request != fingerprint(self._request):
            raise BadCheckpoint("the checkpoint belongs to another request")
        answers = [tensors[name] for name in sorted(tensors)]
        self._answers = [answer.contiguous(memory_format=layout) for answer in answers]


def _is_channels_last(answer: torch.Tensor) -> bool:
    return not answer.is_contiguous() and answer.is_contiguous(memory_format=torch.channels_last)


def fingerprint(request: Request) -> str:
    """Hash all fields of a request that determine its pictures."""
    digest = hashlib.sha256()
    for field in fields(request):
        if field.name not in UNFINGERPRINTED:
            value = getattr(request, field.name)
            plain = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
            digest.update(f"{field.name}:{len(plain)}:".encode() + plain)
    return digest.hexdigest()
