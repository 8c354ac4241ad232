"""Read, change, write back only if nobody wrote in between."""

from __future__ import annotations

import pytest

from dyno.errors import InvalidRequest, QuorumNotMet, RequestTimeout
from dyno.session.update import Update
from dyno.wire import values
from dyno.wire.messages import STRICT, Get, Put


class Updating:
    """A world, and the update that runs in it."""

    def __init__(self, world, change, **options) -> None:
        self.world = world
        self.update = Update(world.session, world.bucket, "alice", change, now=world.now, **options)
        self.call = self.update.start(world.now, world.out)

    def request(self):
        """The message of the present call; time passes until it is sent."""
        for _ in range(100):
            for address, message in self.world.sent():
                if isinstance(message, Get | Put):
                    return address, message
            self.world.advance(0.01)
        raise AssertionError("nothing was sent")

    def read(self, *siblings):
        address, message = self.request()
        assert isinstance(message, Get)
        self.world.hear(address, self.world.found(message, *siblings))
        return self.step()

    def step(self):
        assert self.world.finished() == [self.call]
        self.call = self.update.step(self.call, self.world.now, self.world.out)
        return self.call

    def write(self):
        address, message = self.request()
        assert isinstance(message, Put)
        self.world.hear(address, self.world.done(message))
        self.step()
        return message

    def collide(self):
        address, message = self.request()
        self.world.hear(address, self.world.failed(message, "conflict"))
        return self.step()


def test_what_was_read_is_changed_and_written_if_it_is_still_there(world):
    updating = Updating(world, lambda siblings: {**siblings[0], "milk": 2}, r=1, pr=0, w=3, pw=1)
    updating.read({"bread": 1})
    written = updating.write()
    assert updating.call is None
    assert written.conditional
    assert written.context != b""
    assert (written.w, written.pw) == (3, 1)
    assert values.decode(written.value) == {"bread": 1, "milk": 2}
    record = updating.update.record
    assert record.exists
    assert record.value == {"bread": 1, "milk": 2}
    assert record.context != b""
    assert record.replicas.answered == ("n1", "n2")


def test_without_sloppy_an_update_reads_from_primaries_and_writes_to_them(world):
    updating = Updating(world, lambda siblings: 1, sloppy=False)
    assert updating.request()[1].pr == STRICT
    updating = Updating(world, lambda siblings: 1, sloppy=False)
    updating.read()
    assert updating.write().pw == STRICT


def test_a_missing_key_is_an_empty_list(world):
    seen = []
    updating = Updating(world, lambda siblings: seen.append(siblings) or 1)
    updating.read()
    assert seen == [[]]
    written = updating.write()
    assert (written.conditional, written.context) == (True, b"")


def test_all_siblings_are_given_to_the_change(world):
    updating = Updating(world, sorted)
    updating.read("b", "a")
    assert values.decode(updating.write().value) == ["a", "b"]


def test_a_record_shows_the_value_as_it_is_stored(world):
    updating = Updating(world, lambda _: (1, 2))
    updating.read()
    updating.write()
    assert updating.update.record.value == [1, 2]


def test_somebody_elses_write_means_reading_and_changing_again(world):
    updating = Updating(world, lambda siblings: siblings[0] + 1)
    updating.read(1)
    updating.collide()
    updating.read(5)
    updating.write()
    assert updating.update.record.value == 6


def test_the_pauses_between_rounds_grow_so_that_writers_part(world):
    updating = Updating(world, lambda _: 1, timeout=60)
    pauses = []
    for _ in range(9):
        updating.read()
        updating.collide()
        began = world.now
        while not any(isinstance(message, Get) for _, message in world.out.sends):
            world.advance(0.001)
        pauses.append(world.now - began)
    assert pauses[0] < 0.02
    assert pauses[-1] > 0.1


def test_an_update_that_never_gets_through_ends_at_the_timeout_and_wrote_nothing(world):
    updating = Updating(world, lambda _: 1, timeout=1)
    with pytest.raises(RequestTimeout, match=r"met other writers \d+ times") as caught:
        for _ in range(100):
            updating.read()
            updating.collide()
    assert not caught.value.indeterminate
    assert world.now <= 101.01


def test_a_slow_change_may_use_up_the_time(world):
    def slow(_siblings):
        world.now += 2
        return 1

    updating = Updating(world, slow, timeout=1)
    address, message = updating.request()
    world.hear(address, world.found(message))
    (call,) = world.finished()
    with pytest.raises(RequestTimeout):
        updating.update.step(call, 102.0, world.out)


def test_the_exception_of_a_change_passes_through(world):
    class Mine(Exception):
        pass

    def change(_siblings):
        raise Mine

    updating = Updating(world, change)
    with pytest.raises(Mine):
        updating.read(1)
    assert world.sent(Put) == []


def test_what_cannot_be_stored_is_refused(world):
    updating = Updating(world, lambda _: object())
    with pytest.raises(InvalidRequest):
        updating.read(1)


def test_an_async_change_is_refused_with_a_hint(world):
    async def change(_siblings):
        return 1

    updating = Updating(world, change)
    with pytest.raises(InvalidRequest, match="plain function"):
        updating.read(1)


def test_a_write_whose_fate_is_unknown_ends_the_update(world):
    updating = Updating(world, lambda _: 1)
    updating.read(1)
    address, _ = updating.request()
    world.down(address)
    with pytest.raises(QuorumNotMet) as caught:
        updating.step()
    assert caught.value.indeterminate


@pytest.mark.parametrize(
    "misuse", [{"change": "no function"}, {"w": 0}, {"pw": -1}, {"timeout": 0}, {"r": 0}, {"pr": "x"}]
)
def test_what_cannot_be_right_is_refused_at_once(world, misuse):
    change = misuse.pop("change", lambda _: 1)
    with pytest.raises(InvalidRequest):
        Updating(world, change, **misuse)
    assert world.sent() == []
