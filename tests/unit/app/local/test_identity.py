"""Identity: the user of Postgres."""

from __future__ import annotations

import pytest

from app.local.errors import LocalError
from app.local.identity import Identity, choose


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("reachable", [True, False])
def test_ordinary_user_runs_it_as_is(*, namespaces: bool, reachable: bool) -> None:
    """An ordinary user runs Postgres without a change of user."""
    assert choose(1000, namespaces=namespaces, reachable=reachable) is Identity.CURRENT_USER


def test_root_prefers_a_namespace() -> None:
    """Root uses a user namespace if it is allowed, and otherwise the user `nobody`."""
    assert choose(0, namespaces=True, reachable=True) is Identity.NAMESPACE
    assert choose(0, namespaces=True, reachable=False) is Identity.NAMESPACE
    assert choose(0, namespaces=False, reachable=True) is Identity.NOBODY


def test_no_way_is_said_with_the_way_out() -> None:
    """If neither works, the error says what to do instead."""
    with pytest.raises(LocalError, match="ordinary user, or choose another --dir"):
        choose(0, namespaces=False, reachable=False)
