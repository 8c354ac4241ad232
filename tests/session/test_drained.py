"""Waiting for hints: until none is kept for a node that lives."""

from __future__ import annotations

import pytest

from dyno.errors import ConnectFailed, InvalidRequest, RequestTimeout
from dyno.session.drained import PAUSE_S, Backlog, Drained, backlog_of
from dyno.wire.hints import Held, pack_hints


def a_status(*, hints_for, unheard=(), **liveness):
    members = [{"name": name, "liveness": alive} for name, alive in liveness.items()]
    return {"members": members, "hints_for": hints_for, "unheard": list(unheard)}


def test_hints_for_the_living_are_waited_for():
    status = a_status(hints_for={"n1": 2, "n2": 3, "n3": 4, "gone": 5}, n1="alive", n2="suspect", n3="dead")
    backlog = backlog_of(status)
    assert backlog == Backlog({"n1": 2, "n2": 3}, [])
    assert backlog
    assert str(backlog) == "5 hints wait for n1, n2"


def test_a_living_node_that_was_not_heard_may_keep_some():
    backlog = backlog_of(
        a_status(hints_for={"n3": 9}, unheard=["n2", "n3"], n1="alive", n2="alive", n3="dead")
    )
    assert backlog == Backlog({}, ["n2"])
    assert backlog
    assert str(backlog) == "n2 did not say which hints are kept there"


def test_what_waits_for_the_dead_is_not_waited_for():
    backlog = backlog_of(a_status(hints_for={"n3": 9}, unheard=["n3"], n1="alive", n3="dead"))
    assert not backlog
    assert str(backlog) == ""


def test_one_hint_waits():
    assert str(Backlog({"n2": 1}, [])) == "1 hint waits for n2"


class Waiting:
    """A wait in a world whose nodes keep what a test says."""

    def __init__(self, world, timeout=None):
        self.world = world
        self.drained = Drained(world.session, timeout=timeout, now=world.now)
        self.call = self.drained.start(world.now, world.out)

    def answer(self, *rows):
        ((address, message),) = self.world.requests()
        members = self.world.members("n1", "n2", "n3", id=message.id)
        self.world.hear(address, members._replace(hints=pack_hints(rows)))
        return self.step()

    def step(self):
        assert self.world.finished() == [self.call]
        self.call = self.drained.step(self.call, self.world.now, self.world.out)
        return self.call


NONE = [Held("n1", "", 0), Held("n2", "", 0), Held("n3", "", 0)]


def test_it_is_asked_again_after_a_pause_until_nothing_waits(world):
    waiting = Waiting(world)
    assert waiting.answer(Held("n1", "n2", 7), *NONE[1:]) is not None
    assert waiting.drained.backlog == Backlog({"n2": 7}, [])
    world.advance(PAUSE_S * 0.9)
    assert world.requests() == []
    world.advance(PAUSE_S * 0.2)
    assert waiting.answer(*NONE[:2]) is not None
    assert waiting.drained.backlog == Backlog({}, ["n3"])
    world.advance(PAUSE_S * 1.1)
    assert waiting.answer(*NONE) is None
    assert not waiting.drained.backlog


def test_without_a_timeout_it_goes_on_for_long(world):
    waiting = Waiting(world)
    for _ in range(5_000):
        assert waiting.answer(Held("n1", "n2", 7), *NONE[1:]) is not None
        world.advance(PAUSE_S * 1.1)


def test_the_timeout_counts_all_of_it(world):
    waiting = Waiting(world, timeout=1.0)
    with pytest.raises(RequestTimeout, match="7 hints wait for n2"):
        for _ in range(4):
            waiting.answer(Held("n1", "n2", 7), *NONE[1:])
            world.advance(PAUSE_S * 1.1)
    assert world.now < 101


def test_nodes_that_do_not_answer_end_it_at_the_timeout(world):
    waiting = Waiting(world, timeout=2.0)
    world.advance(2.1)
    with pytest.raises(RequestTimeout):
        waiting.step()


def test_nobody_to_ask_ends_it(world):
    waiting = Waiting(world)
    for node in ("n1", "n2", "n3"):
        world.down(f"{node}:7101")
    world.advance(5.1)
    with pytest.raises(ConnectFailed):
        waiting.step()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "soon"])
def test_a_timeout_is_checked_before_anything_is_asked(world, timeout):
    with pytest.raises(InvalidRequest):
        Drained(world.session, timeout=timeout, now=world.now)
    assert world.sent() == []
