"""Taking and settling deliveries, against a real Postgres."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from app.webhooks.deliveries import Outbox, Try
from app.webhooks.delivery_writer import DeliveryWriter
from app.webhooks.schedule import Answered, Delivered, RetryAt

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.courier.records import Records


def test_many_claims_at_once_take_each_row_once(records: Records) -> None:
    """However many couriers reach for the same rows, each row is given to one of them."""
    outbox, together = Outbox(records.engine), threading.Barrier(8)
    for _ in range(200):
        records.announce("http://busy.test/")

    def claims() -> list[UUID]:
        together.wait()
        taken: list[UUID] = []
        while found := outbox.claim(room=3, cap=200, in_flight={}):
            taken += [delivery.id for delivery in found]
        return taken

    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(claims) for _ in range(8)]
        ids = [made for taker in takers for made in taker.result()]
    assert len(ids) == len(set(ids)) == 200


def test_who_lost_the_lease_settles_nothing(records: Records) -> None:
    """A courier that comes late cannot overwrite what another has taken since."""
    outbox = Outbox(records.engine)
    made = records.announce("http://127.0.0.1/")

    def claim() -> Any:
        (delivery,) = outbox.claim(room=9, cap=9, in_flight={})
        return delivery

    late = claim()
    records.make_due()
    holder = claim()
    assert not outbox.settle(Try(late, Answered(500), RetryAt(5)))
    assert records.row(made)["tries"] == 0
    assert outbox.settle(Try(holder, Answered(200), Delivered()))
    assert not outbox.settle(Try(late, Answered(500), RetryAt(5)))
    assert records.row(made)["state"] == "delivered"


def test_a_full_endpoint_is_passed_over(records: Records) -> None:
    """A claim takes no more of an endpoint than it has room for, counting what is under way."""
    outbox = Outbox(records.engine)
    for _ in range(5):
        records.announce("http://busy.test/a?x#y")
        records.announce("http://BUSY.test/b")
        records.announce("http://idle.test?c")
    first = outbox.claim(room=9, cap=3, in_flight={})
    busy, idle = (f"{records.tenant_id} {name}.test" for name in ("busy", "idle"))
    assert sorted(d.endpoint for d in first) == sorted([busy] * 3 + [idle] * 3)
    second = outbox.claim(room=9, cap=3, in_flight={busy: 3, idle: 1})
    assert [d.endpoint for d in second] == [idle] * 2
    assert len(outbox.claim(room=1, cap=3, in_flight={})) == 1


def test_what_ends_together_is_written_together(records: Records) -> None:
    """Of many concurrent tries each gets its own end; one with a refused text fails alone."""
    outbox = Outbox(records.engine)
    made = [records.announce("http://127.0.0.1/") for _ in range(9)]
    taken = outbox.claim(room=99, cap=99, in_flight={})
    ends = [Answered(200, excerpt="a\0b" if n == 4 else str(n)) for n in range(9)]

    async def settle() -> list[bool | BaseException]:
        delivery_writer = DeliveryWriter(outbox)
        tries = [Try(each, end, Delivered()) for each, end in zip(taken, ends, strict=True)]
        return await asyncio.gather(*map(delivery_writer.settle, tries), return_exceptions=True)

    found = asyncio.run(settle())
    assert [each for n, each in enumerate(found) if n != 4] == [True] * 8
    assert isinstance(found[4], SQLAlchemyError)
    states = Counter(records.row(each)["state"] for each in made)
    assert states == {"delivered": 8, "pending": 1}
    answers = records.rows("SELECT answer FROM tries ORDER BY answer")
    assert [row["answer"] for row in answers] == [str(n) for n in range(9) if n != 4]


def test_a_bug_leaves_nobody_waiting(records: Records) -> None:
    """All tries of a broken transaction get its error; later tries are recorded."""
    outbox, broken = Outbox(records.engine), Try(None, Answered(200), Delivered())  # type: ignore[arg-type]
    made = records.announce("http://127.0.0.1/")
    (taken,) = outbox.claim(room=9, cap=9, in_flight={})
    tried = Try(taken, Answered(200), Delivered())

    async def settle() -> list[bool | BaseException]:
        delivery_writer = DeliveryWriter(outbox)
        together = [delivery_writer.settle(each) for each in (broken, broken, tried)]
        return [
            *await asyncio.gather(*together, return_exceptions=True),
            await delivery_writer.settle(tried),
        ]

    *ended, later = asyncio.run(settle())
    assert [type(each) for each in ended] == [AttributeError] * 3
    assert later is True
    assert records.row(made)["state"] == "delivered"
