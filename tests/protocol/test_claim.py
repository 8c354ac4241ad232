"""A node that moved looks after its old address before it comes up."""

from __future__ import annotations

import pytest

from dyno.protocol.claim import Claim
from dyno.protocol.outbox import Outbox
from dyno.wire.messages import Hello


def hello(name: str, start: bytes) -> Hello:
    return Hello(1, 1, "peer", b"c" * 16, 16, name, b"d" * 16, start, "")


class Looking:
    """A claim to n1, which lived at old:1, from second 10 on."""

    def __init__(self) -> None:
        self.claim = Claim(name="n1", start=b"mine", former="old:1", wait_s=0.5)
        self.out = Outbox()
        self.claim.begin(10.0, self.out)
        assert self.out.connect == ["old:1"]

    def found_free_at(self, now: float) -> None:
        assert not self.claim.free
        assert self.out.stop is None
        assert self.out.disconnect == []
        assert self.claim.tick(now, self.out)
        assert self.claim.free
        assert self.out.disconnect == ["old:1"]


def test_where_nothing_is_remembered_the_name_is_free() -> None:
    claim = Claim(name="n1", start=b"mine", former=None, wait_s=0.5)
    out = Outbox()
    assert claim.free
    claim.begin(0.0, out)
    assert not out.connect
    assert claim.deadline() is None
    assert not claim.tick(1.0, out)


def test_a_silent_address_is_given_its_time() -> None:
    looking = Looking()
    assert looking.claim.deadline() == 10.5
    assert not looking.claim.tick(10.4, looking.out)
    looking.found_free_at(10.5)
    assert not looking.claim.tick(10.6, looking.out)  # that is told once


def test_one_that_gave_up_never_finds_out() -> None:
    looking = Looking()
    looking.claim.give_up()
    assert looking.claim.deadline() is None
    assert not looking.claim.tick(11.0, looking.out)
    assert not looking.claim.free


def test_our_name_under_another_start_is_taken() -> None:
    looking = Looking()
    looking.claim.link_up("old:1", hello("n1", b"other"), 10.1, looking.out)
    assert looking.out.stop is not None
    assert "the name n1 is taken" in looking.out.stop
    assert not looking.claim.free


@pytest.mark.parametrize("who", [hello("n2", b"other"), hello("n1", b"mine")], ids=["another node", "myself"])
def test_whoever_else_lives_there_does_not_have_our_name(who: Hello) -> None:
    looking = Looking()
    looking.claim.link_up("elsewhere:1", hello("n1", b"other"), 10.1, looking.out)
    looking.claim.link_up("old:1", who, 10.1, looking.out)
    assert looking.out.disconnect == ["old:1"]  # and only then does the node begin
    assert looking.claim.deadline() == 10.1
    assert looking.claim.tick(10.1, looking.out)
    assert looking.out.disconnect == ["old:1"]


def test_one_that_refuses_us_does_not_have_our_name() -> None:
    looking = Looking()
    looking.claim.refused("elsewhere:1", 10.1, looking.out)
    assert looking.claim.deadline() == 10.5
    looking.claim.refused("old:1", 10.2, looking.out)
    assert looking.claim.tick(10.2, looking.out)
    assert looking.out.stop is None
