"""Which copies are weak, until when, and how that is remembered."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from dyno.protocol.identity import LOST_ALL
from dyno.protocol.recovery import KEEP_INTERVAL_S, SOUND, Recovery
from dyno.protocol.ring import Ring
from dyno.wire.flat import ProtocolError
from dyno.wire.rows import pack_row
from tests.protocol.membership_harness import a_member

NAMES = ["n1", "n2", "n3", "n4"]
PARTITIONS = 8


class Known:
    """What n1 of four nodes knows. alive: whom it thinks alive. copies: the n of created buckets."""

    def __init__(self, remembered: bytes = b"", names: list[str] = NAMES, *, ring: bool = True) -> None:
        self.alive = dict.fromkeys(names, True)
        self.copies: dict[bytes, int] = {}
        self.ring = Ring(
            [a_member(n) for n in names], cluster=b"c" * 16, partitions=PARTITIONS, fingerprint=1
        )
        self.planner: Any = SimpleNamespace(ring=self.ring if ring else None)
        membership: Any = SimpleNamespace(is_live=lambda name: self.alive[name])
        self.recovery = Recovery(
            me="n1",
            membership=membership,
            planner=self.planner,
            copies=self.copies,
            remembered=remembered,
        )
        if ring:
            self.recovery.replan()

    def slots(self, copies: int = 3) -> list[bytes]:
        """The heads of all slots that n1 has."""
        heads = [bytes((0, partition, copies)) for partition in range(PARTITIONS)]
        return [head for head in heads if "n1" in self.ring.owners(head)]

    def weak(self, copies: int = 3) -> list[bytes]:
        return [head for head in self.slots(copies) if self.recovery.is_weak(head + bytes(24))]

    def greet(self, *names: str) -> None:
        for name in names:
            self.recovery.greeted(name)

    def finish(self, copies: int = 3) -> None:
        for head, name in list(self.recovery.missing()):
            if head[2] == copies:
                self.recovery.finished((head, name), 1.0)


def lost(remembered: bytes = LOST_ALL) -> Known:
    known = Known(remembered)
    known.greet("n2", "n3", "n4")
    return known


def test_a_node_that_lost_nothing_is_sound_once_all_that_live_have_greeted_it() -> None:
    known = Known()
    assert known.weak() == known.slots() != []
    assert known.recovery.doubtful
    assert known.recovery.recovering
    known.greet("n2", "n3")
    assert known.weak() == [head for head in known.slots() if "n4" in known.ring.owners(head)]
    known.alive["n4"] = False
    assert known.weak() == []
    assert not known.recovery.recovering
    known.alive["n4"] = True
    known.greet("n4", "n4")
    assert known.weak() == []
    assert not known.recovery.doubtful
    assert not known.recovery.missing()
    assert not SOUND.is_weak(bytes(27))


def test_before_it_has_a_ring_everything_is_weak() -> None:
    known = Known(LOST_ALL, ring=False)
    assert known.recovery.is_weak(bytes(27))
    assert not known.recovery.missing()
    assert list(known.recovery.pairs()) == []


def test_what_it_does_not_own_is_not_weak() -> None:
    known = Known(LOST_ALL)
    others = [bytes((0, p, 3)) for p in range(PARTITIONS) if "n1" not in known.ring.owners(bytes((0, p, 3)))]
    assert others
    assert not any(known.recovery.is_weak(head) for head in others)


def test_what_was_lost_is_weak_until_every_other_owner_was_compared() -> None:
    known = lost()
    recovery = known.recovery
    assert known.weak() == known.slots()
    head = known.slots()[0]
    one, other = [name for name in known.ring.owners(head) if name != "n1"]
    recovery.finished((head, one), 1.0)
    assert head in known.weak()
    recovery.finished((head, other), 1.0)
    recovery.finished((head, other), 1.0)
    recovery.finished((b"\0\0\x09", "n2"), 1.0)  # nothing that was missing
    assert head not in known.weak()
    assert recovery.recovering
    known.finish()
    assert known.weak() == []
    assert not recovery.recovering
    assert not recovery.doubtful


def test_a_bucket_of_another_n_is_weak_as_well_whenever_it_becomes_known() -> None:
    known = lost()
    known.finish()
    known.copies[b"bucket's"] = 2
    known.copies[b"reserved"] = -1
    known.recovery.replan()
    assert known.weak(2) == known.slots(2)
    assert known.weak(3) == []
    known.finish(2)
    assert known.weak(2) == []


def test_to_finish_one_exchange_does_not_go_through_all_others() -> None:
    """A node with an empty disk finishes a thousand of them in one turn."""
    known = lost()
    missing = known.recovery.missing()
    assert isinstance(missing, dict)

    class Untouched(dict[Any, bool]):
        def __iter__(self) -> Any:
            raise AssertionError("all others are gone through")

    pairs = list(missing)
    known.recovery._missing = Untouched(missing)
    for pair in pairs[:-1]:
        known.recovery.finished(pair, 1.0)
    assert known.recovery.recovering
    known.recovery.finished(pairs[-1], 1.0)
    assert not known.recovery.recovering
    assert known.weak() == []


def test_what_is_lost_again_is_weak_again() -> None:
    known = lost()
    known.finish()
    known.recovery.lose()
    assert known.weak() == known.slots()
    assert known.recovery.deadline() == math.inf


def test_alone_nothing_is_weak() -> None:
    known = Known(LOST_ALL, ["n1"])
    assert known.weak() == []
    assert not known.recovery.recovering


def test_progress_is_remembered_once_a_second() -> None:
    known = lost()
    recovery = known.recovery
    assert not recovery.due(1.0)
    head, name = pair = next(iter(recovery.missing()))
    recovery.finished(pair, 1.0)
    assert recovery.deadline() == 1.0 + KEEP_INTERVAL_S
    assert recovery.due(1.0 + KEEP_INTERVAL_S)
    again = lost(recovery.kept()["recovering"])
    assert recovery.deadline() == math.inf
    assert len(again.recovery.missing()) == len(recovery.missing()) > 0
    assert (head, name) not in again.recovery.missing()
    known.finish()
    again = lost(recovery.kept()["recovering"])
    assert again.weak() == []
    assert not again.recovery.missing()


@pytest.mark.parametrize(
    "remembered", [b"junk", pack_row([None]), pack_row([b"", b"n2"]), pack_row([b"", b"n2", None])]
)
def test_what_nobody_would_have_remembered_is_refused(remembered: bytes) -> None:
    with pytest.raises(ProtocolError):
        Known(remembered)
