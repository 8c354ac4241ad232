"""The parts of a node know each other: what one finds out, those that need it do by it at once."""

from __future__ import annotations

from dyno.placement.hashing import slot_range
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.rows import ASIDE
from dyno.wire.messages import STATUS_OK, STATUS_WEAK, Read, ReadAnswer
from tests.protocol.node_harness import LINK, Driven, a_get, a_put, three


def test_every_part_of_the_background_has_its_own_number_and_doors() -> None:
    node = Driven().node
    numbers = [part.number for part in node._background]
    assert len(set(numbers)) == len(numbers) > 0
    assert all(1 <= number <= 255 for number in numbers)
    doors = [kind for part in node._background for kind in part.doors()]
    assert len(doors) == len(set(doors))


def test_an_old_copy_is_closed_from_the_word_on_and_both_go_to_the_disk_in_one_commit() -> None:
    driven = three()
    (slot,) = driven.node.slots_read_by(a_get())
    head = slot[:HEAD_BYTES]
    driven.ask(a_put(w=1))
    driven.out.sends.clear()
    assert driven.engine.scan(*slot_range(head), limit=1)[0]
    told = driven.hello_of("n2")._replace(start=b"n2......", seen=driven.engine.commit_number + 100)
    driven.node.link_up("n2:1", told, driven.now, driven.out)
    assert driven.node.quarantine.closed == 1
    assert not driven.node.reaping._is_complete(head)
    batch = driven.node.take_batch()
    assert batch is not None
    assert ASIDE + head in batch.writes
    assert {"directory", "former", "recovering"} <= set(batch.meta)


def test_a_weak_copy_is_not_complete_for_reaping_nor_sound_for_others() -> None:
    driven = three()
    (slot,) = driven.node.slots_read_by(a_get())
    driven.ask(a_put(w=1))
    read = Read(9, driven.node.membership.fingerprint, slot)
    (answer,) = driven.ask(read)
    assert isinstance(answer, ReadAnswer)
    assert answer.status == STATUS_OK
    driven.node._recovery.lose()
    assert not driven.node.reaping._is_complete(slot[:HEAD_BYTES])
    assert not driven.node.quarantine._is_complete(slot[:HEAD_BYTES])
    (answer,) = driven.ask(read)
    assert isinstance(answer, ReadAnswer)
    assert answer.status == STATUS_WEAK


def test_an_old_copy_whose_closing_waits_for_room_is_closed_though_it_dies_before_that() -> None:
    driven = three()
    (slot,) = driven.node.slots_read_by(a_get())
    driven.node._replica._gathers_max = 1  # as a slow disk has it
    driven.node.receive(LINK, a_put(w=1), driven.now, driven.out)
    told = driven.hello_of("n2")._replace(start=b"n2......", seen=driven.engine.commit_number + 100)
    driven.node.link_up("n2:1", told, driven.now, driven.out)
    batch = driven.node.take_batch()
    assert batch is not None
    assert ASIDE + slot[:HEAD_BYTES] not in batch.writes
    driven.engine.write_batch(batch.writes, batch.meta)  # and there it died, under its new id
    again = Driven(engine=driven.engine, seed=2)
    assert again.node.quarantine.closed == 1
    again.learn("n2", "n3")
    again.node.tick(again.now, again.out)
    again.commit()
    assert again.engine.get(ASIDE + slot[:HEAD_BYTES]) == b""
    assert Driven(engine=again.engine, seed=3).node.quarantine.closed == 1


def test_what_was_opened_again_is_not_closed_at_the_next_start() -> None:
    driven = three()
    driven.ask(a_put(w=1))
    told = driven.hello_of("n2")._replace(start=b"n2......", seen=driven.engine.commit_number + 100)
    driven.node.link_up("n2:1", told, driven.now, driven.out)
    driven.commit()
    driven.now += 20.0  # nobody says how old it is: what it has is set aside
    for _ in range(5):
        driven.end_turn()
        driven.commit()
        driven.now += 1.0
    assert driven.node.quarantine.closed == 0
    assert Driven(engine=driven.engine, seed=2).node.quarantine.closed == 0
