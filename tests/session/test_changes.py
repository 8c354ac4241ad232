"""Whether what cannot be done now may be possible in a moment."""

from __future__ import annotations

import pytest

from dyno.session.changes import SETTLED_S, Changes
from dyno.wire.members import DEAD, JOINING, SUSPECT


@pytest.fixture
def member(a_world):
    return a_world().member


@pytest.fixture
def changes(member):
    """Three members, as a client finds them when it opens at 10.0."""
    changes = Changes()
    changes.learned([member(name) for name in ("n1", "n2", "n3")], 10.0)
    return changes


def may_help(changes, now, *, since=None, needed=3):
    return changes.may_help(needed=needed, since=now if since is None else since, now=now)


def test_what_a_client_finds_is_no_change(changes, member):
    assert not may_help(changes, 10.1)
    changes.learned([member(name) for name in ("n1", "n2", "n3")], 11.0)
    assert not may_help(changes, 11.1)
    fresh = Changes()
    assert not may_help(fresh, 10.0)
    fresh.learned([member("n1"), member("n2", liveness=DEAD)], 10.0)
    assert not may_help(fresh, 10.0, needed=2)


def test_a_link_that_changed_counts_for_some_seconds(changes):
    changes.link_changed(20.0)
    assert may_help(changes, 20.0)
    assert may_help(changes, 20.0 + SETTLED_S - 0.1)
    assert not may_help(changes, 20.0 + SETTLED_S + 0.1)


def test_a_call_that_was_under_way_at_the_change_goes_on(changes):
    changes.link_changed(20.0)
    assert may_help(changes, 80.0, since=19.0)
    assert not may_help(changes, 80.0, since=21.0)


@pytest.mark.parametrize("facts", [{"liveness": DEAD}, {"stamp": 2}, {"state": JOINING}])
def test_a_member_that_stands_otherwise_is_a_change(changes, member, facts):
    changes.learned([member("n1"), member("n2"), member("n3", **facts)], 20.0)
    assert may_help(changes, 20.0, needed=2)
    assert not may_help(changes, 20.0 + SETTLED_S, needed=2)


def test_as_long_as_somebody_is_suspected_nothing_is_certain(changes, member):
    changes.learned([member("n1"), member("n2"), member("n3", liveness=SUSPECT)], 20.0)
    assert may_help(changes, 80.0)
    changes.learned([member("n1"), member("n2"), member("n3")], 81.0)
    assert not may_help(changes, 81.0 + SETTLED_S)


def test_more_than_there_are_will_never_do(changes, member):
    changes.link_changed(20.0)
    assert not may_help(changes, 20.0, needed=4)
    changes.learned([member("n1"), member("n2"), member("n3", state=JOINING)], 21.0)
    assert not may_help(changes, 21.0, needed=3)
    assert may_help(changes, 21.0, needed=2)
