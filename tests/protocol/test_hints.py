"""What a node keeps for others: merged, counted, bounded, and let go only when it is unchanged."""

from __future__ import annotations

from gc import collect
from weakref import ref

import pytest

from dyno.protocol.group_commit import Refusal
from dyno.protocol.rows import ASIDE, HINTS
from dyno.storage.cell import record_of
from dyno.wire.messages import STATUS_OVERLOADED, STATUS_REFUSED, STATUS_STORAGE
from tests.protocol.hints_harness import KEY, Kept, a_record, a_slot, values

ONE, OTHER = a_record(b"one", by=1), a_record(b"other", by=2)


def test_nothing_is_kept_in_the_beginning() -> None:
    kept = Kept()
    assert kept.hints.held() == {}
    assert not kept.hints.has("b")
    assert kept.hints.read(a_slot(1), ["b", "c"]) == (b"", None)
    assert kept.hints.page("b", b"", limit=10) == ([], None)


def test_a_hint_is_there_with_the_batch_to_wait_for_until_it_is_on_the_disk() -> None:
    kept = Kept()
    batch = kept.keep("b", 1, ONE)
    assert kept.hints.read(a_slot(1), ["b"]) == (ONE, batch)
    assert kept.hints.held() == {"b": 1}
    kept.commit()
    assert kept.hints.read(a_slot(1), ["b"]) == (ONE, None)
    assert kept.keep("b", 1, ONE) is None, "it is all here and on the disk"


def test_a_restart_knows_what_is_kept_for_whom() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.keep("b", 2, ONE)
    kept.keep("c", 1, OTHER)
    kept.commit()
    again = kept.restarted()
    assert again.hints.held() == {"b": 2, "c": 1}
    assert again.hints.bytes_held() == kept.hints.bytes_held() > 2 * len(ONE) + len(OTHER)


def test_two_hints_for_one_slot_and_target_are_merged_into_one() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.commit()
    kept.keep("b", 1, OTHER)
    assert kept.hints.held() == {"b": 1}
    merged, _ = kept.hints.read(a_slot(1), ["b"])
    assert values(merged) == [b"one", b"other"]


def test_a_merged_hint_has_the_lower_generation_of_the_two() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE, generation=9)
    kept.keep("b", 1, OTHER, generation=3)
    kept.keep("b", 1, ONE, generation=5)
    kept.commit()
    ((hint,), _) = kept.hints.page("b", b"", limit=10)
    assert hint.generation == 3


def test_people_are_shown_what_is_on_the_disk_for_whomever() -> None:
    kept = Kept()
    kept.keep("c", 1, ONE)
    kept.keep("b", 1, OTHER)
    kept.keep("b", 2, ONE)
    assert kept.hints.kept(a_slot(1)) == [], "not yet"
    kept.commit()
    assert kept.hints.kept(a_slot(1)) == [("b", OTHER), ("c", ONE)]
    assert kept.hints.kept(a_slot(2)) == [("b", ONE)]
    assert kept.hints.kept(a_slot(3)) == []
    kept.engine.corrupt(HINTS + b"b\0" + a_slot(1))
    assert kept.hints.kept(a_slot(1)) == [("b", None), ("c", ONE)]


def test_a_read_merges_what_is_kept_for_all_owners_of_the_slot() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.commit()
    batch = kept.keep("c", 1, OTHER)
    kept.keep("d", 1, a_record(b"not an owner's", by=3))
    merged, waits = kept.hints.read(a_slot(1), ["b", "c"])
    assert values(merged) == [b"one", b"other"]
    assert waits is batch


def test_a_read_waits_for_the_later_of_two_batches() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    committing = kept.replica.take_batch()
    assert kept.hints.read(a_slot(1), ["b"])[1] is committing
    gathering = kept.keep("c", 1, ONE)
    assert kept.hints.read(a_slot(1), ["b", "c"]) == (ONE, gathering)
    assert kept.hints.read(a_slot(1), ["c", "b"]) == (ONE, gathering)


def test_what_is_no_record_is_refused() -> None:
    kept = Kept()
    with pytest.raises(Refusal) as refused:
        kept.keep("b", 1, b"nonsense")
    assert refused.value.status == STATUS_REFUSED
    assert kept.hints.held() == {}


def test_two_records_that_contradict_each_other_are_no_hint() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    with pytest.raises(Refusal, match="contradict"):
        kept.keep("b", 1, a_record(b"another one", by=1))
    assert kept.hints.read(a_slot(1), ["b"])[0] == ONE


def test_a_record_under_another_keys_slot_is_refused() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    with pytest.raises(Refusal, match="was given"):
        kept.hints.keep("b", a_slot(1), b"another key", ONE, generation=0, needed=True)


# ── the budget ──


def test_past_the_budget_only_what_a_write_counts_on_is_taken() -> None:
    kept = Kept(hints_bytes_max=1000)
    kept.keep("b", 1, a_record(b"x" * 800), needed=False)
    with pytest.raises(Refusal) as refused:
        kept.keep("c", 1, a_record(b"x" * 800), needed=False)
    assert refused.value.status == STATUS_OVERLOADED
    kept.keep("c", 1, a_record(b"x" * 800), needed=True)
    assert kept.hints.held() == {"b": 1, "c": 1}


def test_what_is_handed_over_makes_room() -> None:
    kept = Kept(hints_bytes_max=1000)
    kept.keep("b", 1, a_record(b"x" * 800), needed=False)
    kept.commit()
    ((hint,), _) = kept.hints.page("b", b"", limit=10)
    assert kept.hints.delete("b", hint) is not None
    assert kept.hints.bytes_held() == 0
    kept.keep("c", 1, a_record(b"x" * 800), needed=False)


def test_a_full_batch_takes_neither_hint_nor_count() -> None:
    kept = Kept(batch_bytes_max=600)
    kept.keep("b", 1, ONE)
    with pytest.raises(Refusal) as refused:
        kept.keep("b", 2, a_record(b"x" * 400))
    assert refused.value.status == STATUS_OVERLOADED
    kept.commit()
    assert kept.hints.held() == kept.restarted().hints.held() == {"b": 1}


# ── the disk says no ──


def test_a_commit_that_fails_takes_hints_and_counts_along() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.commit()
    kept.keep("b", 2, ONE)
    kept.keep("c", 1, ONE)
    kept.commit_fails()
    assert kept.hints.held() == {"b": 1}
    assert kept.hints.read(a_slot(2), ["b"]) == (b"", None)
    kept.keep("c", 1, ONE)
    kept.commit()
    assert kept.hints.held() == kept.restarted().hints.held() == {"b": 1, "c": 1}


def test_a_deletion_that_does_not_come_to_the_disk_has_not_happened() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.commit()
    ((hint,), _) = kept.hints.page("b", b"", limit=10)
    kept.hints.delete("b", hint)
    assert kept.hints.held() == {}
    kept.commit_fails()
    assert kept.hints.held() == {"b": 1}
    assert kept.hints.read(a_slot(1), ["b"]) == (ONE, None)


def test_a_damaged_hint_is_no_answer_and_takes_nothing() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.commit()
    kept.engine.corrupt(kept.rows()[0])
    for tried in (lambda: kept.hints.read(a_slot(1), ["b"]), lambda: kept.keep("b", 1, OTHER)):
        with pytest.raises(Refusal) as refused:
            tried()
        assert refused.value.status == STATUS_STORAGE


def test_a_damaged_hint_can_be_let_go() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.keep("b", 2, ONE)
    kept.commit()
    kept.engine.corrupt(kept.rows()[0])
    damaged, sound = kept.hints.page("b", b"", limit=10)[0]
    assert damaged.value is None
    assert sound.record == ONE
    kept.hints.drop_damaged("b", damaged)
    kept.commit()
    assert kept.hints.held() == {"b": 1}
    assert len(kept.rows()) == 1
    kept.hints.delete("b", sound)
    kept.commit()
    assert (kept.hints.held(), kept.hints.bytes_held(), kept.rows()) == ({}, 0, [])


def test_a_damaged_count_is_counted_anew_at_the_next_start() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.keep("b", 2, OTHER)
    kept.commit()
    kept.corrupt_count("b")
    again = kept.restarted()
    assert again.hints.held() == {"b": 2}
    assert again.hints.bytes_held() == kept.hints.bytes_held()


# ── handing over ──


def test_pages_go_in_key_order_and_go_on_where_the_last_one_ended() -> None:
    kept = Kept()
    for number in (3, 1, 2):
        kept.keep("b", number, ONE)
    kept.keep("bb", 1, ONE)
    kept.keep("a", 1, ONE)
    kept.commit()
    page, onward = kept.hints.page("b", b"", limit=2)
    assert [hint.slot for hint in page] == [a_slot(1), a_slot(2)]
    assert [(hint.key, hint.record) for hint in page] == [(KEY, ONE)] * 2
    assert onward is not None
    page, onward = kept.hints.page("b", onward, limit=2)
    assert [hint.slot for hint in page] == [a_slot(3)]
    assert onward is None


def test_a_hint_that_changed_since_it_was_read_is_kept() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.commit()
    ((hint,), _) = kept.hints.page("b", b"", limit=10)
    kept.keep("b", 1, OTHER)
    for is_on_disk in (False, True):
        if is_on_disk:
            kept.commit()
        assert not kept.hints.is_newest(hint)
        assert kept.hints.delete("b", hint) is None
        assert kept.hints.set_aside("b", hint) is None
        assert kept.hints.held() == {"b": 1}


def test_one_that_is_deleted_twice_is_counted_once() -> None:
    kept = Kept()
    kept.keep("b", 1, ONE)
    kept.keep("b", 2, ONE)
    kept.commit()
    hint = kept.hints.page("b", b"", limit=1)[0][0]
    assert kept.hints.delete("b", hint) is not None
    assert kept.hints.delete("b", hint) is None
    assert kept.hints.held() == {"b": 1}


def test_what_is_set_aside_is_no_hint_any_more_and_not_lost() -> None:
    kept = Kept()
    for target, record in (("b", ONE), ("c", OTHER)):
        kept.keep(target, 1, record)
    kept.commit()
    for target in ("b", "c"):
        ((hint,), _) = kept.hints.page(target, b"", limit=10)
        kept.hints.set_aside(target, hint)
    kept.commit()
    assert (kept.hints.held(), kept.rows()) == ({}, [])
    cell = kept.engine.get(ASIDE + a_slot(1))
    assert cell is not None
    assert values(record_of(cell)) == [b"one", b"other"]


def test_a_batch_that_is_on_the_disk_is_not_held_on_to() -> None:
    kept = Kept()
    batch = kept.keep("b", 1, ONE)
    assert batch is not None
    batch.waiters.append(lambda status, now, out: None)
    waiter = ref(batch.waiters[-1])
    del batch
    assert waiter() is not None
    kept.commit()
    collect()
    assert waiter() is None, "all that was written with a node's last hint would stay in memory"
