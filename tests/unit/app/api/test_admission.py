"""Admission control: a flood from one sender leaves room, threads and time for others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from app.api.admission import MAX_PER_SENDER, AdmissionControl
from app.errors import Unavailable


class Senders:
    """Submissions that stay inside until they are told to go."""

    def __init__(self, admission: AdmissionControl) -> None:
        self.admission = admission
        self.go = asyncio.Event()
        self.working = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, sender: str, count: int = 1) -> None:
        """Begin `count` submissions; returns when each works, waits or was refused."""
        self.tasks += [asyncio.create_task(self._submit(sender)) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _submit(self, sender: str) -> None:
        async with self.admission.enter(sender):
            self.working += 1
            await self.go.wait()

    async def end(self) -> list[BaseException | None]:
        """Let all go on; what became of each."""
        self.go.set()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


def test_a_senders_submissions_are_worked_on_a_few_at_a_time() -> None:
    """The rest wait for their turn, and all are handled in the end."""

    async def scenario() -> None:
        senders = Senders(AdmissionControl())
        await senders.send("ann", MAX_PER_SENDER + 5)
        assert senders.working == MAX_PER_SENDER
        await senders.send("ben")
        assert senders.working == MAX_PER_SENDER + 1
        assert await senders.end() == [None] * (MAX_PER_SENDER + 6)
        assert senders.working == MAX_PER_SENDER + 6
        assert senders.admission.in_progress == 0

    asyncio.run(scenario())


def test_one_sender_gets_half_of_the_places() -> None:
    """More of its submissions are refused with a reason; another sender still comes in."""

    async def scenario() -> None:
        senders = Senders(AdmissionControl(limit=20))
        await senders.send("ann", 12)
        await senders.send("ben", 10)
        refused = [each for each in await senders.end() if each is not None]
        assert [str(error) for error in refused] == [
            "you have 10 submissions in progress (limit 10); try again"
        ] * 2
        assert all(isinstance(error, Unavailable) for error in refused)

    asyncio.run(scenario())


def test_all_places_together_are_bounded() -> None:
    """However many senders there are."""

    async def scenario() -> None:
        senders = Senders(AdmissionControl(limit=4))
        for name in "abcde":
            await senders.send(name)
        *_, last = await senders.end()
        assert str(last) == "the farm has 4 submissions in progress (limit 4); try again"

    asyncio.run(scenario())


def test_who_fails_leaves_its_place() -> None:
    """A submission that breaks is no longer inside, and its sender is forgotten."""

    async def scenario() -> None:
        admission = AdmissionControl(limit=2)
        with pytest.raises(ZeroDivisionError):
            async with admission.enter("ann"):
                raise ZeroDivisionError
        assert admission.in_progress == 0
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(admission.enter("ann"))
            await stack.enter_async_context(admission.enter("ben"))
        assert admission.in_progress == 0

    asyncio.run(scenario())
