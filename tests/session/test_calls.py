"""What a call knows of itself."""

from __future__ import annotations

import pytest

from dyno.session.calls import Call
from dyno.wire.messages import ALL, DEFAULT, QUORUM, AskMembers, Delete, Get, GetMany, Put


def a_call(request) -> Call:
    return Call(1, request, bucket=b"", deadline=0.0, weight=0)


@pytest.mark.parametrize(
    ("r", "pr", "needed"),
    [(1, 0, 1), (1, 2, 2), (DEFAULT, DEFAULT, 2), (QUORUM, 0, 2), (ALL, 0, 3), (1, QUORUM, 2), (2, ALL, 3)],
)
def test_needed_is_what_the_quorums_ask_for(r, pr, needed):
    assert a_call(Get(1, "b", b"k", r, pr, 1, False)).needed == needed
    assert a_call(GetMany(1, "b", b"", r, pr, 1)).needed == needed
    assert a_call(Put(1, "b", b"k", b"", b"", False, r, pr, b"", 1, False)).needed == needed
    assert a_call(Delete(1, "b", b"k", b"", 1, 0, r, pr, b"", 1, False)).needed == needed
    assert a_call(AskMembers(1)).needed == 1


def test_only_reads_can_be_asked_twice():
    assert a_call(Get(1, "b", b"k", 1, 0, 1, False)).reads
    assert a_call(GetMany(1, "b", b"", 1, 0, 1)).reads
    assert a_call(AskMembers(1)).reads
    assert not a_call(None).reads
    assert not a_call(Put(1, "b", b"k", b"", b"", False, 1, 0, b"", 1, False)).reads
    assert not a_call(Delete(1, "b", b"k", b"", 1, 0, 1, 0, b"", 1, False)).reads


def test_trouble_is_made_once():
    call = a_call(None)
    assert call.trouble is None
    assert call.troubled() is call.troubled()
