"""Replay: the denoiser's recorded answers are a job's checkpoint.

Another engine runs the same pipeline from its start and answers the first calls from the record, at
no denoiser cost. Everything else (noise, scheduler, guidance) is computed again in the same way, so
this is exact for any pipeline and scheduler.
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

# The fields that may differ between the attempts of one job.
INCIDENTAL = frozenset({"id", "priority", "exclusive"})

LAYOUTS = {"0": torch.contiguous_format, "1": torch.channels_last}


class Record:
    """The denoiser's answers to one job, in order.

    The first `known` ones come from a checkpoint.
    """

    def __init__(self, request: Request, checkpoint: bytes | None = None) -> None:
        self._request = request
        self._wrapped = True
        self._answers: list[torch.Tensor] = []
        self._place = 0
        if checkpoint is not None:
            self._unpack(checkpoint)

    @property
    def steps(self) -> int:
        """How many denoiser calls have an answer."""
        return len(self._answers)

    @property
    def last(self) -> torch.Tensor | None:
        """The last answer that the pipeline received."""
        return self._answers[self._place - 1] if self._place else None

    def known(self, call: Call) -> Any:
        """Return the recorded answer to `call`, or None after the end of the record."""
        if self._place == len(self._answers):
            return None
        if call.method.role == "control":  # only the denoiser would read it
            return [], torch.zeros(())
        if call.method.role != "denoiser":
            return None
        answer = self._answers[self._place].to(call.device)
        return (answer,) if self._wrapped else answer

    def note(self, answer: Any) -> None:
        """Record an answer of the denoiser, unless it comes from this record."""
        if self._place == len(self._answers):
            self._wrapped = isinstance(answer, tuple)
            # A copy: the answer is a view that would keep the whole batch alive.
            self._answers.append((answer[0] if self._wrapped else answer).clone())
        self._place += 1

    def pack(self) -> bytes | None:
        """Return the answers as safetensors, in their own number format; None if there are none."""
        if not self._answers:
            return None
        # A file holds plain layouts only. Another layout is noted, because it decides which kernels
        # run.
        tensors = {f"{n:05}": a.cpu().contiguous() for n, a in enumerate(self._answers)}
        about = {
            "request": fingerprint(self._request),
            "wrapped": str(int(self._wrapped)),
            "channels_last": str(int(_is_channels_last(self._answers[0]))),
        }
        return bytes(safetensors.torch.save(tensors, about))

    def _unpack(self, checkpoint: bytes) -> None:
        try:
            length = int.from_bytes(checkpoint[:8], "little")
            about = json.loads(checkpoint[8 : 8 + length])["__metadata__"]
            tensors = safetensors.torch.load(checkpoint)
            request, self._wrapped = about["request"], about["wrapped"] == "1"
            layout = LAYOUTS[about.get("channels_last", "0")]
        except (SafetensorError, ValueError, LookupError, TypeError) as error:
            raise BadCheckpoint(f"the checkpoint cannot be read: {error}") from error
        if request != fingerprint(self._request):
            raise BadCheckpoint("the checkpoint belongs to another request")
        answers = [tensors[name] for name in sorted(tensors)]
        self._answers = [answer.contiguous(memory_format=layout) for answer in answers]


def _is_channels_last(answer: torch.Tensor) -> bool:
    return not answer.is_contiguous() and answer.is_contiguous(memory_format=torch.channels_last)


def fingerprint(request: Request) -> str:
    """Hash everything in a request that its pictures depend on."""
    digest = hashlib.sha256()
    for field in fields(request):
        if field.name not in INCIDENTAL:
            value = getattr(request, field.name)
            plain = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
            digest.update(f"{field.name}:{len(plain)}:".encode() + plain)
    return digest.hexdigest()
