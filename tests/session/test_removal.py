"""A delete that reads by the handle's quorums first."""

from __future__ import annotations

import pytest

from dyno.errors import InvalidRequest, RequestTimeout
from dyno.session.options import BucketOptions
from dyno.session.removal import Removal
from dyno.wire.messages import Delete, Get


class Removing:
    """A world, and the removal that runs in it."""

    def __init__(self, world, *, r=1, pr=None, **options) -> None:
        self.world = world
        bucket = BucketOptions("carts", r=r, pr=pr)
        self.removal = Removal(world.session, bucket, "alice", now=world.now, **options)
        self.call = self.removal.start(world.now, world.out)

    def request(self):
        ((address, message),) = [sent for sent in self.world.sent() if isinstance(sent[1], Get | Delete)]
        return address, message

    def hear(self, address, message):
        self.world.hear(address, message)
        assert self.world.finished() == [self.call]
        self.call = self.removal.step(self.call, self.world.now, self.world.out)


def test_what_was_read_is_deleted(world):
    removing = Removing(world, r=1, pr=0, w=3, pw=1)
    address, read = removing.request()
    assert isinstance(read, Get)
    assert (read.key, read.r, read.pr) == (b"alice", 1, 0)
    removing.hear(address, world.found(read, "left", "right"))
    address, delete = removing.request()
    assert isinstance(delete, Delete)
    assert delete.context != b""
    assert (delete.key, delete.w, delete.pw) == (b"alice", 3, 1)
    removing.hear(address, world.done(delete))
    assert removing.call is None
    assert removing.removal.result.replicas.answered == ("n1", "n2")
    assert removing.removal.result.context != b""


def test_where_nobody_ever_wrote_nothing_is_deleted(world):
    removing = Removing(world)
    address, read = removing.request()
    removing.hear(address, world.found(read, answered="n3"))
    assert removing.call is None
    assert removing.removal.result.context == b""
    assert removing.removal.result.replicas.answered == ("n3",)
    assert world.sent() == []


def test_a_read_that_fails_ends_the_delete(world):
    removing = Removing(world, timeout=1)
    world.advance(1.1)
    (call,) = world.finished()
    with pytest.raises(RequestTimeout) as caught:
        removing.removal.step(call, world.now, world.out)
    assert not caught.value.indeterminate
    assert not [message for _, message in world.sent() if isinstance(message, Delete)]


def test_the_timeout_covers_both_calls(world):
    removing = Removing(world, timeout=2)
    address, read = removing.request()
    assert read.budget_ms == 2000
    world.now += 1.5
    removing.hear(address, world.found(read, 1))
    address, delete = removing.request()
    assert delete.budget_ms == 500


@pytest.mark.parametrize("misuse", [{"w": 0}, {"pw": -1}, {"timeout": 0}])
def test_what_cannot_be_right_is_refused_before_anything_is_read(world, misuse):
    with pytest.raises(InvalidRequest):
        Removing(world, **misuse)
    assert world.sent() == []
