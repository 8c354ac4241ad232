"""A delete without a context: what is read once is deleted, however often it is sent."""

from __future__ import annotations

import pytest

from dyno.causality.record import Record as Stored
from dyno.errors import ConnectFailed, InvalidRequest, Overloaded, QuorumNotMet, RequestTimeout, StorageFailed
from dyno.session.links import PATIENCE_S
from dyno.wire.messages import Delete, Found, Get


def only(world, kind):
    ((address, message),) = world.sent(kind)
    return address, message


def deleting(world, **options):
    """A delete that has read, and the request that follows."""
    call = world.delete("alice", context=None, **options)
    address, get = only(world, Get)
    world.hear(address, world.found(get, "milk", "eggs"))
    return call, *only(world, Delete)


def test_it_reads_by_the_handle_and_deletes_what_it_read(world):
    call = world.delete("alice", context=None, w=3, timeout=2)
    address, get = only(world, Get)
    assert (get.key, get.budget_ms) == (b"alice", 2000)
    world.advance(0.2)
    world.sent()
    found = world.found(get, "milk", "eggs")
    world.hear(address, found)
    _, delete = only(world, Delete)
    assert (delete.key, delete.w) == (b"alice", 3)
    assert 1700 <= delete.budget_ms <= 1800, "both have one timeout"
    world.hear(address, world.done(delete))
    assert world.finished() == [call]
    assert call.error is None
    assert call.result.replicas == (("n1", "n2"), ("n2",))
    assert world.session._dispatch.calls == {}


def test_every_attempt_covers_the_same(world):
    call, address, first = deleting(world)
    world.down(address, "reset")
    other, again = only(world, Delete)
    assert other != address
    assert (again.context, again.request) == (first.context, first.request)
    world.hear(other, world.done(again))
    assert world.finished() == [call]


def test_what_was_never_written_needs_no_delete(world):
    call = world.delete("alice", context=None)
    address, get = only(world, Get)
    world.hear(address, Found(get.id, b"", "n1,n3", ""))
    assert world.sent(Delete) == []
    assert world.finished() == [call]
    assert call.result.context == b""
    assert call.result.replicas == (("n1", "n3"), ())


def test_what_is_deleted_already_is_deleted_again(world):
    call = world.delete("alice", context=None)
    address, get = only(world, Get)
    record = world.stored("milk")
    world.hear(address, Found(get.id, record.delete(record.context).pack(), "n1,n2", ""))
    _, delete = only(world, Delete)
    assert delete.context
    assert not world.finished()
    world.cancel(call)


@pytest.mark.parametrize(("code", "error"), [("quorum", QuorumNotMet), ("invalid", InvalidRequest)])
def test_a_read_that_fails_deletes_nothing(a_world, code, error):
    world = a_world(["n1:7101"]).settle("n1", members=a_world().members("n1"))
    call = world.delete("alice", context=None)
    address, get = only(world, Get)
    world.hear(address, world.failed(get, code))
    world.advance(5.1)
    assert world.sent(Delete) == []
    assert isinstance(call.error, error)
    assert not getattr(call.error, "indeterminate", False)


def test_damaged_bytes_are_not_deleted(world):
    call = world.delete("alice", context=None)
    address, get = only(world, Get)
    world.hear(address, Found(get.id, Stored.EMPTY.pack()[:-1] + b"x", "n1", ""))
    assert world.finished() == [call]
    assert isinstance(call.error, StorageFailed)


def test_a_delete_that_is_never_answered_is_indeterminate(a_world):
    world = a_world(["n1:7101"]).settle("n1", members=a_world().members("n1"))
    call, _, _ = deleting(world, timeout=1)
    world.advance(1.1)
    assert world.finished() == [call]
    assert isinstance(call.error, RequestTimeout)
    assert call.error.indeterminate


def test_a_client_that_is_full_or_closed_meanwhile_deletes_nothing(world, monkeypatch):
    call = world.delete("alice", context=None)
    address, get = only(world, Get)
    monkeypatch.setattr("dyno.session.session.CALLS_MAX", 0)
    world.hear(address, world.found(get, "milk"))
    assert world.finished() == [call]
    assert isinstance(call.error, Overloaded)
    monkeypatch.undo()
    other = world.delete("alice", context=None)
    world.session.close(world.now, world.out)
    assert world.finished() == [other]
    assert isinstance(other.error, ConnectFailed)


def test_what_cannot_be_right_is_refused_before_anything_is_read(world):
    for misuse in ({"w": 0}, {"pw": -1}, {"timeout": 0}):
        with pytest.raises(InvalidRequest):
            world.delete("alice", context=None, **misuse)
    assert world.sent() == []


@pytest.mark.parametrize("turns", [0, 1])
def test_a_cancelled_one_leaves_nothing_behind(world, turns):
    call = world.delete("alice", context=None)
    address, get = only(world, Get)
    if turns:
        world.hear(address, world.found(get, "milk"))
    world.cancel(call)
    world.hear(address, world.found(get, "milk"))
    world.advance(PATIENCE_S)
    assert world.session._dispatch.calls == {}
    assert world.finished() == []
