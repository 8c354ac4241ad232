"""Minting: whatever state a node loses, no dot is given to two writes (Riak's kv679 and its kin)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter, Note
from dyno.causality.record import Record

START, LATER = b"process1", b"process2"
REQUEST = b"request.request."


def put(record: Record, note: Note | None, minter: Minter, value: bytes) -> tuple[Record, Note]:
    """A blind write at the coordinator that owns this minter."""
    dot, note = minter.mint(record.context, note)
    return record.write(Context.EMPTY, dot, REQUEST, value), note


def values(record: Record) -> list[bytes]:
    return sorted(sibling.value for sibling in record.siblings)


# ── one process that loses nothing ─────────────────────────────────────────────────────────────────────


def test_the_first_write_of_a_key_opens_an_epoch_and_the_next_ones_count_on():
    minter = Minter(START)
    first, note = minter.mint(Context.EMPTY, None)
    second, note = minter.mint(Context.EMPTY.add(first), note)
    assert (first, second) == (Dot(actor(START, 0), 1), Dot(actor(START, 0), 2))
    assert note == Note(START, 0, 2)


def test_another_key_has_an_epoch_of_its_own():
    minter = Minter(START)
    one, _ = minter.mint(Context.EMPTY, None)
    other, _ = minter.mint(Context.EMPTY, None)
    assert one.actor != other.actor


# ── what may be lost ───────────────────────────────────────────────────────────────────────────────────


def test_a_forgotten_copy_opens_a_new_epoch():
    minter = Minter(START)
    dot, note = minter.mint(Context.EMPTY, None)
    dot, note = minter.mint(Context.EMPTY.add(dot), note)
    assert minter.mint(Context.EMPTY, note)[0] == Dot(actor(START, 1), 1)


def test_an_old_copy_that_came_back_opens_a_new_epoch():
    minter = Minter(START)
    first, note = minter.mint(Context.EMPTY, None)
    old = Context.EMPTY.add(first)
    _, note = minter.mint(old, note)
    assert minter.mint(old, note)[0].actor == actor(START, 1)


def test_a_forgotten_note_opens_a_new_epoch():
    minter = Minter(START)
    dot, _ = minter.mint(Context.EMPTY, None)
    assert minter.mint(Context.EMPTY.add(dot), None)[0].actor == actor(START, 1)


def test_a_note_behind_its_record_opens_a_new_epoch():
    minter = Minter(START)
    first, old_note = minter.mint(Context.EMPTY, None)
    second, _ = minter.mint(Context.EMPTY.add(first), old_note)
    assert minter.mint(Context.EMPTY.add(first).add(second), old_note)[0].actor == actor(START, 1)


def test_a_later_dot_in_the_cloud_opens_a_new_epoch():
    minter = Minter(START)
    first, note = minter.mint(Context.EMPTY, None)
    third = Dot(first.actor, 3)
    assert minter.mint(Context.EMPTY.add(first).add(third), note)[0].actor == actor(START, 1)


def test_a_restarted_process_is_another_actor():
    dot, note = Minter(START).mint(Context.EMPTY, None)
    assert Minter(LATER).mint(Context.EMPTY.add(dot), note)[0] == Dot(actor(LATER, 0), 1)


def test_a_note_of_another_start_counts_for_nothing_even_where_its_numbers_fit():
    minter = Minter(LATER)
    dot, _ = minter.mint(Context.EMPTY, None)
    assert minter.mint(Context.EMPTY.add(dot), Note(START, 0, 1))[0] == Dot(actor(LATER, 1), 1)


def test_after_a_failed_commit_the_same_process_is_another_actor():
    minter = Minter(START)
    committed, note = minter.mint(Context.EMPTY, None)
    minter.mint(Context.EMPTY.add(committed), note)  # sent to others, and then the commit failed
    minter.restart(LATER)
    assert minter.start == LATER
    dot, note = minter.mint(Context.EMPTY.add(committed), note)
    assert dot == Dot(actor(LATER, 0), 1)
    assert minter.mint(Context.EMPTY.add(committed).add(dot), note)[0] == Dot(actor(LATER, 0), 2)


def test_an_epoch_that_a_forged_context_covers_is_passed_over():
    forged = Context.EMPTY.add(Dot(actor(START, 0), 1)).add(Dot(actor(START, 1), 7))
    dot, note = Minter(START).mint(forged, None)
    assert dot == Dot(actor(START, 2), 1)
    assert note == Note(START, 2, 1)


def test_passing_over_a_great_many_forged_epochs_is_done_at_once():
    """In steps, not in their square: the loop of a node must not stand still for somebody's token."""
    count = 30_000
    vector = b"".join(actor(START, epoch) + (1).to_bytes(8, "big") for epoch in range(count))
    cloud = b"".join(Dot(b"\xff" * 16, 2 * number).pack() for number in range(1, count))
    forged = Context.unpack((count - 1).to_bytes(4, "big") + vector + cloud)
    assert Minter(START).mint(forged, None)[0] == Dot(actor(START, count), 1)


def test_a_start_id_is_never_used_again():
    with pytest.raises(AssertionError):
        Minter(START).restart(START)
    with pytest.raises(AssertionError):
        Minter(START).restart(b"short")
    with pytest.raises(AssertionError):
        Minter(b"short")


@given(
    st.lists(
        st.sampled_from(["put", "copy", "lose copy", "lose note", "restore", "restart", "fail"]), max_size=40
    )
)
@settings(deadline=None, max_examples=200)
def test_no_history_of_losses_reissues_a_dot(events: list[str]):
    starts = iter(range(1000))
    minter = Minter(next(starts).to_bytes(8, "big"))
    context, note = Context.EMPTY, None
    copies = [Context.EMPTY]
    minted: list[Dot] = []
    for event in events:
        if event == "put":
            dot, note = minter.mint(context, note)
            minted.append(dot)
            context = context.add(dot)
        elif event == "copy":
            copies.append(context)
        elif event == "lose copy":
            context = Context.EMPTY
        elif event == "lose note":
            note = None
        elif event == "restore":
            context = context.union(copies[len(minted) % len(copies)])
        elif event == "restart":
            minter = Minter(next(starts).to_bytes(8, "big"))
        elif event == "fail":
            minted.append(minter.mint(context, note)[0])
            minter.restart(next(starts).to_bytes(8, "big"))
    assert len(set(minted)) == len(minted)


# ── kv679, as records see it ───────────────────────────────────────────────────────────────────────────


def test_kv679_a_coordinator_that_lost_its_copy_does_not_lose_the_next_write():
    minter = Minter(START)
    record, note = put(Record.EMPTY, None, minter, b"one")
    record, note = put(record, note, minter, b"two")
    replica = Record.EMPTY.merge(record)
    for kept_note in (note, None):
        after, _ = put(Record.EMPTY, kept_note, minter, b"three")
        assert values(replica.merge(after)) == [b"one", b"three", b"two"]


def test_kv679_a_fallback_that_replays_an_old_clock_does_not_get_a_dot_issued_twice():
    minter = Minter(START)
    at_fallback, note = put(Record.EMPTY, None, minter, b"one")
    at_others, note = put(at_fallback, note, minter, b"two")
    forgetful = Record.EMPTY.merge(at_fallback)  # the primary lost all, and was handed the old copy
    after, _ = put(forgetful, note, minter, b"three")
    assert values(at_others.merge(after)) == [b"one", b"three", b"two"]


def test_kv679_a_dot_that_was_sent_before_the_commit_failed_is_not_minted_again():
    minter = Minter(START)
    on_disk, note = put(Record.EMPTY, None, minter, b"one")
    sent, _ = put(on_disk, note, minter, b"sent and then lost here")
    minter.restart(LATER)
    after, _ = put(on_disk, note, minter, b"three")
    assert values(sent.merge(after)) == [b"one", b"sent and then lost here", b"three"]


# ── the note's bytes ───────────────────────────────────────────────────────────────────────────────────


def test_a_note_packs_and_unpacks():
    note = Note(START, 2**64 - 1, 258)
    assert note.pack() == START + b"\xff" * 8 + b"\0\0\0\0\0\0\1\2"
    assert Note.unpack(note.pack()) == note


@pytest.mark.parametrize("bad", [b"", b"x" * 23, b"x" * 25, START + bytes(16)])
def test_bytes_that_no_note_packs_to_are_malformed(bad: bytes):
    with pytest.raises(Malformed):
        Note.unpack(bad)
