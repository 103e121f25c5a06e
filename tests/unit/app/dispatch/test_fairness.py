"""Fairness: which job runs next."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.dispatch.fairness import AGEING_S, LOOK_AHEAD, Candidate, choose, window

ANN, BEN = UUID(int=1), UUID(int=2)


def job(
    number: int, tenant: UUID = ANN, priority: int = 0, waited_s: float = 0.0, shape: str = ""
) -> Candidate:
    """Build a candidate whose id is its number."""
    return Candidate(UUID(int=number), tenant, priority, waited_s, shape)


def order(candidates: list[Candidate], in_progress: dict[UUID, int] | None = None) -> list[int]:
    """Return the numbers of all candidates in their order."""
    return [i.int for i in choose(candidates, in_progress or {}, len(candidates))]


def test_the_higher_priority_goes_first() -> None:
    """Priority precedes age and a tenant's share."""
    assert order([job(1, waited_s=59), job(2, priority=1)], {ANN: 9}) == [2, 1]


def test_waiting_raises_a_job_above_a_younger_one_of_higher_priority() -> None:
    """A job's rank rises by one with each minute of waiting, so no job starves."""
    old, new = job(1, priority=0, waited_s=3 * AGEING_S), job(2, priority=2)
    assert order([new, old]) == [1, 2]
    almost = job(1, priority=0, waited_s=2 * AGEING_S - 1)
    assert order([new, almost]) == [2, 1]


def test_the_oldest_goes_first_among_equals() -> None:
    """One tenant and one priority give the order of arrival."""
    assert order([job(1, waited_s=1), job(2, waited_s=3), job(3, waited_s=2)]) == [2, 3, 1]


def test_equal_tenants_alternate() -> None:
    """A long queue of one tenant does not delay another tenant's few jobs."""
    candidates = [job(n, ANN, waited_s=20 - n) for n in range(1, 7)]
    candidates += [job(n, BEN, waited_s=1) for n in (11, 12, 13)]
    assert order(candidates) == [1, 11, 2, 12, 3, 13, 4, 5, 6]


def test_running_jobs_count_against_a_tenant() -> None:
    """The tenant with fewer jobs in progress goes first."""
    candidates = [job(1, ANN, waited_s=9), job(2, ANN, waited_s=8), job(11, BEN), job(12, BEN)]
    assert order(candidates, {ANN: 2}) == [11, 12, 1, 2]


def test_no_more_than_there_is_room_for() -> None:
    """`room` limits the answer; no room gives no jobs."""
    assert len(choose([job(n) for n in range(9)], {}, 4)) == 4
    assert choose([job(1)], {}, 0) == []


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.uuids(),
        st.sampled_from([ANN, BEN, UUID(int=3)]),
        st.integers(-100, 100),
        st.floats(0, 1e3),
        st.sampled_from(["64x64", "64x64 mask", "128x64"]),
    ),
    unique_by=lambda c: c.id,
    max_size=30,
)


@given(CANDIDATES, st.integers(0, 40))
def test_nothing_is_dropped_or_repeated(candidates: list[Candidate], room: int) -> None:
    """The answer has as many different candidates as there is room for."""
    chosen = choose(candidates, {}, room)
    assert len(chosen) == len(set(chosen)) == min(room, len(candidates))
    assert set(chosen) <= {c.id for c in candidates}


@given(CANDIDATES, st.dictionaries(st.sampled_from([ANN, BEN]), st.integers(0, 50)))
def test_ranks_never_rise_along_the_order(
    candidates: list[Candidate], in_progress: dict[UUID, int]
) -> None:
    """No job goes before a job of higher rank, of any tenant."""
    rank = {c.id: c.rank for c in candidates}
    ranks = [rank[i] for i in choose(candidates, in_progress, len(candidates))]
    assert ranks == sorted(ranks, reverse=True)


def test_jobs_of_the_same_shape_go_together() -> None:
    """Jobs that can share a forward pass are adjacent, although others waited between them."""
    candidates = [job(n, waited_s=9 - n, shape="a" if n % 2 else "b") for n in range(1, 7)]
    assert order(candidates) == [1, 3, 5, 2, 4, 6]


def test_the_head_goes_first_whatever_its_shape() -> None:
    """A job with a shape of its own still gets its turn."""
    candidates = [job(1, waited_s=9, shape="odd")] + [job(n, shape="a") for n in range(2, 9)]
    assert order(candidates)[0] == 1


def test_a_shared_shape_does_not_change_ranks() -> None:
    """No job of the same shape passes a job of higher rank."""
    candidates = [job(1, priority=1, shape="a"), job(2, priority=1, shape="b"), job(3, shape="a")]
    assert order(candidates) == [1, 2, 3]


@given(CANDIDATES, st.dictionaries(st.sampled_from([ANN, BEN]), st.integers(0, 50)))
def test_no_job_is_overtaken_by_more_than_the_look_ahead(
    candidates: list[Candidate], in_progress: dict[UUID, int]
) -> None:
    """Compared with the order without shapes, at most `LOOK_AHEAD` more jobs go before a job."""
    plain = [Candidate(c.id, c.tenant_id, c.priority, c.waited_s) for c in candidates]
    fair = choose(plain, in_progress, len(plain))
    shaped = choose(candidates, in_progress, len(candidates))
    for place, job_id in enumerate(fair):
        overtook = set(shaped[: shaped.index(job_id)]) - set(fair[:place])
        assert len(overtook) <= LOOK_AHEAD


def test_a_tenant_gets_no_more_than_its_allowance() -> None:
    """Its first jobs go, up to its allowance; other tenants get the room that remains."""
    candidates = [job(n, ANN, waited_s=20 - n) for n in range(1, 7)]
    candidates += [job(n, BEN, waited_s=1) for n in (11, 12, 13)]
    chosen = choose(candidates, {}, 9, {ANN: 2})
    assert [i.int for i in chosen] == [1, 11, 2, 12, 13]
    assert choose(candidates, {}, 9, {ANN: 0, BEN: -1}) == []


def test_the_window_is_twice_the_free_slots_and_never_below_half_of_all() -> None:
    """An idle farm gets two hints for each slot, a busy one gets one for two slots."""
    assert window(8, 0) == 16
    assert window(8, 2) == 12
    assert window(8, 8) == 4
    assert window(8, 20) == 4
    assert window(1, 1) == 1
    assert window(0, 0) == 0
