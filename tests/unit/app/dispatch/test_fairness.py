"""Who goes next."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.dispatch.fairness import AGEING_S, LOOK_AHEAD, Candidate, choose, window

ANN, BEN = UUID(int=1), UUID(int=2)


def job(
    number: int, tenant: UUID = ANN, priority: int = 0, waited_s: float = 0.0, shape: str = ""
) -> Candidate:
    """A candidate whose id is its number."""
    return Candidate(UUID(int=number), tenant, priority, waited_s, shape)


def order(candidates: list[Candidate], under_way: dict[UUID, int] | None = None) -> list[int]:
    """The numbers of all candidates in the order in which they go."""
    return [i.int for i in choose(candidates, under_way or {}, len(candidates))]


def test_the_higher_priority_goes_first() -> None:
    """Priority outweighs age and a tenant's share."""
    assert order([job(1, waited_s=59), job(2, priority=1)], {ANN: 9}) == [2, 1]


def test_waiting_raises_a_job_above_a_younger_one_of_higher_priority() -> None:
    """A job gains one priority with each minute of waiting, so none starves."""
    old, new = job(1, priority=0, waited_s=3 * AGEING_S), job(2, priority=2)
    assert order([new, old]) == [1, 2]
    almost = job(1, priority=0, waited_s=2 * AGEING_S - 1)
    assert order([new, almost]) == [2, 1]


def test_the_oldest_goes_first_among_equals() -> None:
    """With one tenant and one priority it is first come, first served."""
    assert order([job(1, waited_s=1), job(2, waited_s=3), job(3, waited_s=2)]) == [2, 3, 1]


def test_equal_tenants_alternate() -> None:
    """A tenant with a long queue does not push another's few jobs to its end."""
    candidates = [job(n, ANN, waited_s=20 - n) for n in range(1, 7)]
    candidates += [job(n, BEN, waited_s=1) for n in (11, 12, 13)]
    assert order(candidates) == [1, 11, 2, 12, 3, 13, 4, 5, 6]


def test_what_is_under_way_counts_against_a_tenant() -> None:
    """The tenant with fewer jobs under way catches up first."""
    candidates = [job(1, ANN, waited_s=9), job(2, ANN, waited_s=8), job(11, BEN), job(12, BEN)]
    assert order(candidates, {ANN: 2}) == [11, 12, 1, 2]


def test_no_more_than_there_is_room_for() -> None:
    """`room` bounds the answer, and none means none."""
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
    """Whatever waits, the answer is as many different candidates as there is room for."""
    chosen = choose(candidates, {}, room)
    assert len(chosen) == len(set(chosen)) == min(room, len(candidates))
    assert set(chosen) <= {c.id for c in candidates}


@given(CANDIDATES, st.dictionaries(st.sampled_from([ANN, BEN]), st.integers(0, 50)))
def test_ranks_never_rise_along_the_order(
    candidates: list[Candidate], under_way: dict[UUID, int]
) -> None:
    """Nobody goes before a job of higher rank, whosever it is."""
    rank = {c.id: c.rank for c in candidates}
    ranks = [rank[i] for i in choose(candidates, under_way, len(candidates))]
    assert ranks == sorted(ranks, reverse=True)


def test_the_same_shape_comes_along() -> None:
    """Jobs that can share a forward pass go together, though others came between them."""
    candidates = [job(n, waited_s=9 - n, shape="a" if n % 2 else "b") for n in range(1, 7)]
    assert order(candidates) == [1, 3, 5, 2, 4, 6]


def test_the_head_goes_first_whatever_its_shape() -> None:
    """A shape that nobody shares still has its turn."""
    candidates = [job(1, waited_s=9, shape="odd")] + [job(n, shape="a") for n in range(2, 9)]
    assert order(candidates)[0] == 1


def test_a_shape_does_not_outrank() -> None:
    """Nobody comes along past a job of higher rank."""
    candidates = [job(1, priority=1, shape="a"), job(2, priority=1, shape="b"), job(3, shape="a")]
    assert order(candidates) == [1, 2, 3]


@given(CANDIDATES, st.dictionaries(st.sampled_from([ANN, BEN]), st.integers(0, 50)))
def test_nobody_is_overtaken_by_more_than_the_look_ahead(
    candidates: list[Candidate], under_way: dict[UUID, int]
) -> None:
    """Beside the order without shapes, a job is moved back by `LOOK_AHEAD` places at most."""
    plain = [Candidate(c.id, c.tenant_id, c.priority, c.waited_s) for c in candidates]
    fair = choose(plain, under_way, len(plain))
    shaped = choose(candidates, under_way, len(candidates))
    for place, job_id in enumerate(fair):
        overtook = set(shaped[: shaped.index(job_id)]) - set(fair[:place])
        assert len(overtook) <= LOOK_AHEAD


def test_a_tenant_gets_no_more_than_it_is_allowed() -> None:
    """Its best jobs go, up to its allowance; the others' share is larger for it."""
    candidates = [job(n, ANN, waited_s=20 - n) for n in range(1, 7)]
    candidates += [job(n, BEN, waited_s=1) for n in (11, 12, 13)]
    chosen = choose(candidates, {}, 9, {ANN: 2})
    assert [i.int for i in chosen] == [1, 11, 2, 12, 13]
    assert choose(candidates, {}, 9, {ANN: 0, BEN: -1}) == []


def test_the_window_is_twice_the_free_slots_and_never_below_half_of_all() -> None:
    """An idle farm gets two hints a slot, a busy one a hint for two slots, none gets none."""
    assert window(8, 0) == 16
    assert window(8, 2) == 12
    assert window(8, 8) == 4
    assert window(8, 20) == 4
    assert window(1, 1) == 1
    assert window(0, 0) == 0
