"""Corrupt records are healed by the merge of what all their other owners have, and by nothing less."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dyno.protocol.exchange import RETRY_AFTER_S
from dyno.protocol.healing import HOPELESS_S, PATIENTS_MAX, Healing
from dyno.protocol.outbox import Outbox
from dyno.wire.messages import STATUS_OK, STATUS_RING, Fetch, Fetched
from dyno.wire.rows import pack_row
from tests.protocol.exchange_harness import Owner, Owners

KEY = b"key"


class Ward:
    """n1, which has one corrupt record, n2 and n3."""

    def __init__(self, *names: str, shared: bool = True) -> None:
        self.owners = Owners(*names)
        self.n1: Owner = self.owners.n1
        self.slot = self.n1.write(KEY)
        if shared:
            for owner in list(self.owners.by_name.values())[1:]:
                owner.replica.merge(*self.n1.replica_entry(KEY))
        self.owners.commit()
        self.sound = self.n1.records()[self.slot]
        self.n1.engine.corrupt(self.slot)
        self.n1.replica.note_damage(self.slot)
        self.n1.taken()
        self.healing: Healing = self.n1.exchange._healing
        self.now = 0.0

    def asked(self) -> list[tuple[str, Fetch]]:
        """The questions that are due."""
        while self.healing.deadline() <= self.now:
            self.healing.tick(self.now, self.n1.out)
        return [(name, message) for name, message in self.n1.taken() if isinstance(message, Fetch)]

    def answer(self, name: str, message: Fetch, answer: Any = None) -> None:
        answer = answer or self.owners.by_name[name].serve(message)
        self.healing.answer(name, answer, self.now, self.n1.out)

    def serve(self) -> int:
        asked = self.asked()
        for name, message in asked:
            self.answer(name, message)
        self.n1.commit()
        return len(asked)

    @property
    def healed(self) -> bool:
        return self.n1.records()[self.slot] != b"corrupt"


def test_all_other_owners_are_asked_and_their_merge_is_written() -> None:
    ward = Ward()
    ward.owners.by_name["n2"].write(KEY, b"of n2")
    ward.owners.by_name["n3"].write(KEY, b"of n3")
    ward.owners.commit()
    assert ward.serve() == 2
    assert ward.healed
    assert len(ward.n1.records()[ward.slot]) > len(ward.sound)
    assert "is healed" in ward.n1.events()
    assert ward.healing.deadline() == math.inf
    ward.n1.replica.note_damage(ward.slot)
    assert ward.serve() == 2  # looked at again, it is merged with what is there
    assert ward.healed


def test_an_owner_that_is_away_is_waited_for() -> None:
    ward = Ward()
    ward.owners.unlink(ward.n1, "n3")
    assert ward.serve() == 1
    assert not ward.healed
    assert ward.healing.deadline() == math.inf
    ward.owners.link(ward.n1, "n3")
    assert ward.serve() == 1
    assert ward.healed


def test_a_link_that_breaks_is_asked_over_again() -> None:
    ward = Ward("n1", "n2")
    ((name, message),) = ward.asked()
    ward.owners.unlink(ward.n1, "n2")
    ward.answer(name, message)  # late
    assert not ward.healed
    ward.owners.link(ward.n1, "n2")
    assert ward.serve() == 1
    assert ward.healed


def test_a_refusal_is_followed_by_another_question() -> None:
    ward = Ward("n1", "n2")
    ((name, message),) = ward.asked()
    ward.answer(name, message, Fetched(message.id, STATUS_RING, b""))
    assert ward.healing.deadline() == RETRY_AFTER_S
    ward.healing.tick(0.0, ward.n1.out)
    assert ward.n1.taken() == []
    ward.now = RETRY_AFTER_S
    assert ward.serve() == 1
    assert ward.healed


def test_an_answer_counts_once_and_only_from_whom_was_asked() -> None:
    ward = Ward()
    for name, message in ward.asked():
        ward.answer("n9", message, Fetched(message.id, STATUS_OK, pack_row([b"", b""])))
        ward.answer(name, message)
        ward.answer(name, message)
    ward.n1.commit()
    assert ward.healed


def test_where_nobody_has_anything_it_stays_corrupt_and_is_looked_at_again() -> None:
    ward = Ward(shared=False)
    assert ward.serve() == 2
    assert not ward.healed
    assert ward.healing.deadline() == HOPELESS_S
    ward.healing.link_up("n2")
    assert ward.serve() == 0
    ward.owners.n2.replica.merge(ward.slot, KEY, ward.sound)
    ward.owners.n2.commit()
    ward.now = HOPELESS_S
    assert ward.serve() == 2
    assert ward.healed


def test_where_another_copy_is_corrupt_too_the_sound_one_is_taken() -> None:
    ward = Ward()
    ward.owners.n2.engine.corrupt(ward.slot)
    ward.serve()
    assert ward.healed


def test_a_record_of_another_key_heals_nothing() -> None:
    ward = Ward("n1", "n2")
    ((name, message),) = ward.asked()
    ward.answer(name, message, Fetched(message.id, STATUS_OK, pack_row([b"another", ward.sound])))
    ward.n1.commit()
    assert not ward.healed


def test_what_is_no_record_heals_nothing_and_is_reported() -> None:
    ward = Ward("n1", "n2")
    ((name, message),) = ward.asked()
    ward.answer(name, message, Fetched(message.id, STATUS_OK, pack_row([KEY, b"junk"])))
    assert "is not healed" in ward.n1.events()
    assert ward.healing.deadline() == HOPELESS_S


def test_an_answer_that_is_none_closes_the_link() -> None:
    ward = Ward("n1", "n2")
    ((name, message),) = ward.asked()
    with pytest.raises(ValueError, match="a slot has"):
        ward.answer(name, message, Fetched(message.id, STATUS_OK, pack_row([KEY])))


def test_a_disk_that_refuses_is_tried_again() -> None:
    ward = Ward("n1", "n2")
    ward.n1.write(b"another key")
    ward.n1.fail_commit()
    ward.serve()
    assert not ward.healed
    assert "is not healed" in ward.n1.events()
    ward.now = HOPELESS_S
    ward.n1.replica.tick(ward.now)
    ward.n1.commit()  # tried without records first
    ward.serve()
    assert ward.healed


def test_what_is_no_copy_of_this_node_is_left_alone() -> None:
    ward = Ward("n1", "n2")
    ward.serve()
    for key in (b"\xff\xff\xff\x01row", bytes((9, 9)) + ward.slot[2:], bytes((0, 0, 0)) + ward.slot[3:]):
        ward.n1.replica.note_damage(key)
    assert ward.asked() == []
    assert not ward.n1.replica.damaged
    ward.n1.planner.ring = None
    ward.n1.replica.note_damage(ward.slot)
    assert ward.asked() == []
    alone = Owners("n1").n1
    alone.replica.note_damage(ward.slot)
    alone.exchange.tick(0.0, Outbox())
    assert alone.exchange.deadline() == math.inf


def test_so_many_are_treated_at_once() -> None:
    ward = Ward("n1", "n2")
    for number in range(PATIENTS_MAX + 5):
        ward.n1.replica.note_damage(ward.slot[:3] + number.to_bytes(24, "big"))
    assert len(ward.asked()) == PATIENTS_MAX
    assert len(ward.n1.replica.damaged) == 6
    assert ward.healing.deadline() == math.inf
