"""Each checker, with histories that must pass and histories that must not."""

from __future__ import annotations

import pytest

from dyno.causality.context import Context
from dyno.ringlog import entry as entries
from dyno.simulator.checkers import ACTORS_PER_START_MAX, check
from dyno.simulator.history import Key
from tests.ringlog.ring_makers import a_row, an_entry
from tests.simulator.hand_made import KEY, REAP_AFTER_S, Book, context_of, dot, failure, names, record_of


@pytest.fixture
def book() -> Book:
    return Book()


# ── lost ──


def test_a_value_that_is_there_is_not_lost(book: Book) -> None:
    put = book.put(dot(1))
    assert book.end(put) == []


def test_a_value_that_is_nowhere_is_lost(book: Book) -> None:
    put = book.put(dot(1))
    (violation,) = book.end()
    assert (violation.checker, violation.key, violation.at) == ("lost", KEY, put.ended)
    assert "ann's put of 1 (#1, 1.000 s) was acknowledged by n1, n2" in violation.text
    assert "no read has ever shown it" in violation.text


def test_who_read_it_may_overwrite_it(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    over = book.put(dot(2), after=read)
    assert book.end(over) == []


def test_who_wrote_it_may_overwrite_it(book: Book) -> None:
    put = book.put(dot(1))
    over = book.put(dot(2), after=put)
    assert book.end(over) == []


def test_who_read_something_else_may_not_overwrite_it(book: Book) -> None:
    other = book.put(dot(1))
    book.put(dot(1, who=2), client="bob")
    read = book.get(other, context=context_of(dot(1), dot(1, who=2)), client="cleo")
    over = book.put(dot(2), after=read, client="cleo")
    (violation,) = book.end(over)
    assert violation.checker == "lost"
    assert "bob's put" in violation.text
    assert "the context of cleo's put of 4 (#4, 7.000 s) covers it all the same" in violation.text


def test_who_saw_it_last_is_told(book: Book) -> None:
    put = book.put(dot(1))
    book.get(put, context=context_of(dot(1)), client="bob")
    (violation,) = book.end()
    assert violation.text.endswith("it was last seen by bob's get (#2, 3.000 s)")


def test_a_write_of_unknown_fate_may_have_overwritten_it(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    book.failed_put(indeterminate=True, after=read)
    assert book.end() == []


def test_a_write_that_was_not_done_has_overwritten_nothing(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    book.failed_put(indeterminate=False, after=read)
    assert names(book.end()) == ["lost"]


def test_a_write_of_unknown_fate_may_be_gone(book: Book) -> None:
    book.failed_put(indeterminate=True)
    assert book.end() == []


def test_an_update_overwrites_what_it_was_given(book: Book) -> None:
    put = book.put(dot(1))
    update = book.update(dot(2), put)
    assert book.end(update) == []


def test_a_delete_of_what_was_read_loses_nothing(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    book.delete(after=read)
    assert book.end() == []


def test_a_delete_without_a_context_says_what_it_deleted(book: Book) -> None:
    book.put(dot(1))
    book.delete(covers=context_of(dot(1)))
    assert book.end() == []


def test_and_no_more_than_that(book: Book) -> None:
    book.put(dot(1))
    book.put(dot(2))
    book.delete(covers=context_of(dot(1)))
    (violation,) = book.end()
    assert violation.checker == "lost"
    assert "ann's put of 2" in violation.text


def test_a_delete_without_a_context_and_of_unknown_fate_excuses_all(book: Book) -> None:
    book.put(dot(1))
    book.delete(acknowledged=False)
    assert book.end() == []


def test_a_write_on_as_many_disks_as_were_destroyed_may_be_gone() -> None:
    book = Book(holders_lost=1)
    book.put(dot(1), w=1)
    assert book.end() == []
    book.put(dot(2), w=2)
    assert names(book.end()) == ["lost"]


# ── returned, siblings, once, refused ──


def test_what_was_overwritten_does_not_come_back(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    over = book.put(dot(2), after=read)
    (violation,) = book.end(over, put)
    assert violation.checker == "returned"
    assert "covers ann's put of 1 (#1, 1.000 s), which is there in the end" in violation.text


def test_what_was_deleted_does_not_come_back(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    book.delete(after=read)
    assert names(book.end(put)) == ["returned"]


def test_a_delete_without_a_context_holds_too(book: Book) -> None:
    put = book.put(dot(1))
    book.delete(covers=context_of(dot(1)))
    assert names(book.end(put)) == ["returned"]


def test_an_update_holds_too(book: Book) -> None:
    put = book.put(dot(1))
    update = book.update(dot(2), put)
    assert names(book.end(put, update)) == ["returned"]


def test_a_write_that_was_minted_twice_comes_back_under_its_other_dot(book: Book) -> None:
    put = book.put(dot(1))
    book.seen(dot(1, who=2), put)
    read = book.get(put, context=context_of(dot(1)))
    book.delete(after=read)
    assert names(book.end(put)) == ["returned"]


def test_a_delete_of_unknown_fate_need_not_have_happened(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    delete = book.delete(after=read)
    delete.fail(book.now, failure(indeterminate=True))
    assert book.end(put) == []


def test_concurrent_values_are_siblings(book: Book) -> None:
    one = book.put(dot(1))
    other = book.put(dot(1, who=2), client="bob")
    assert book.end(one, other) == []


def test_a_value_does_not_stand_beside_what_its_author_had_read(book: Book) -> None:
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    over = book.failed_put(indeterminate=True, after=read)
    assert names(book.end(put, over)) == ["siblings"]


def test_no_read_shows_a_write_twice(book: Book) -> None:
    put = book.put(dot(1))
    book.seen(dot(1, who=2), put)
    book.get(put, put, context=context_of(dot(1)))
    (violation,) = book.end(put)
    assert violation.checker == "once"
    assert f"{dot(1).actor.hex()}:1, {dot(1, who=2).actor.hex()}:1" in violation.text


def test_what_was_not_done_is_never_seen(book: Book) -> None:
    put = book.failed_put(indeterminate=False)
    book.get(put, context=context_of(dot(1)))
    (violation,) = book.end()
    assert violation.checker == "refused"
    assert "was told that it was not done (QuorumNotMet: 1 of 2)" in violation.text


def test_nor_what_nobody_wrote(book: Book) -> None:
    book.get(context=context_of(dot(1))).siblings = (77,)
    (violation,) = book.end()
    assert "showed 77, which nobody wrote" in violation.text


def test_nor_what_was_written_to_another_key(book: Book) -> None:
    put = book.put(dot(1))
    put.key = Key("plain", "other")
    assert "refused" in names(book.end(put))


# ── strict ──


def test_a_strict_read_covers_earlier_strict_writes(book: Book) -> None:
    put = book.put(dot(1), strict=True)
    book.get(put, context=context_of(dot(1)), strict=True)
    assert book.end(put) == []


def test_a_strict_read_that_misses_one_is_stale(book: Book) -> None:
    put = book.put(dot(1), strict=True)
    book.get(context=Context.EMPTY, strict=True)
    (violation,) = book.end(put)
    assert violation.checker == "strict"
    assert "with R=2 from n1, n2 knows nothing of ann's put of 1" in violation.text


@pytest.mark.parametrize(("w", "r"), [(1, 2), (2, 1), (1, 1)])
def test_quorums_that_do_not_overlap_promise_nothing(book: Book, w: int, r: int) -> None:
    put = book.put(dot(1), strict=True, w=w)
    book.get(context=Context.EMPTY, strict=True, r=r)
    assert book.end(put) == []


@pytest.mark.parametrize(("w", "r"), [(3, 1), (1, 3), (2, 2)])
def test_quorums_that_overlap_do(book: Book, w: int, r: int) -> None:
    put = book.put(dot(1), strict=True, w=w)
    book.get(context=Context.EMPTY, strict=True, r=r)
    assert names(book.end(put)) == ["strict"]


@pytest.mark.parametrize(("written", "read"), [(True, False), (False, True)])
def test_sloppy_ones_promise_nothing(book: Book, written: bool, read: bool) -> None:
    put = book.put(dot(1), strict=written)
    book.get(context=Context.EMPTY, strict=read)
    assert book.end(put) == []


def test_a_write_that_is_not_acknowledged_yet_may_be_missed(book: Book) -> None:
    put = book.begin_put(strict=True)
    read = book.get(context=Context.EMPTY, strict=True)
    put.succeed(read.ended, returned=b"", answered=())
    assert book.end(put) == []


def test_an_overwritten_write_is_covered(book: Book) -> None:
    put = book.put(dot(1), strict=True)
    over = book.put(dot(2), after=put, strict=True)
    book.get(over, context=context_of(dot(1), dot(2)), strict=True)
    assert book.end(over) == []


def test_what_was_overwritten_long_ago_may_have_been_reaped(book: Book) -> None:
    put = book.put(dot(1), strict=True)
    over = book.put(dot(1, who=2), after=put, strict=True)
    book.get(over, context=context_of(dot(1, who=2)), strict=True)
    assert names(book.end(over)) == ["strict"], "it is too early for that"
    book = Book()
    put = book.put(dot(1), strict=True)
    over = book.put(dot(1, who=2), after=put, strict=True)
    book.wait(REAP_AFTER_S)
    book.get(over, context=context_of(dot(1, who=2)), strict=True)
    assert book.end(over) == []


def test_what_nobody_overwrote_is_never_reaped(book: Book) -> None:
    book.put(dot(1), strict=True)
    book.wait(10 * REAP_AFTER_S)
    book.get(context=Context.EMPTY, strict=True)
    assert "strict" in names(book.end())


def test_a_value_that_was_done_again_is_not_covered_by_who_read_it_before(book: Book) -> None:
    """It shows under its second dot until somebody is back who knows of both."""
    put = book.put(dot(1, who=2))
    book.seen(dot(1), put)
    other = book.put(dot(2))
    basis = book.get(other, put, context=context_of(dot(1), dot(2)))
    book.delete(after=basis, strict=True)
    book.get(put, context=context_of(dot(1), dot(2), dot(1, who=2)), strict=True)
    assert names(book.end(put)) == ["returned"], "but not in the end"
    both = book.get(other, context=context_of(dot(1), dot(2), dot(1, who=2)))
    book.delete(after=both, strict=True)
    book.get(put, context=context_of(dot(1), dot(2), dot(1, who=2)), strict=True)
    assert "strict" in names(book.end())


def test_what_a_strict_delete_covered_is_not_read_again(book: Book) -> None:
    put = book.put(dot(1))
    book.delete(after=put, strict=True)
    book.get(context=context_of(dot(1)), strict=True)
    assert book.end() == []
    book.get(put, context=context_of(dot(1)), strict=True)
    assert "strict" in names(book.end())


def test_nor_is_it_forgotten_before_it_may_be_reaped(book: Book) -> None:
    put = book.put(dot(1))
    book.delete(after=put, strict=True)
    book.get(context=Context.EMPTY, strict=True)
    assert names(book.end()) == ["strict"]
    book = Book()
    put = book.put(dot(1))
    book.delete(after=put, strict=True)
    book.wait(REAP_AFTER_S)
    book.get(context=Context.EMPTY, strict=True)
    assert book.end() == []


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_delete_that_reads_by_itself_may_have_led_to_reaping(book: Book, acknowledged: bool) -> None:
    book.put(dot(1), strict=True)
    book.delete(covers=context_of(dot(1)), acknowledged=acknowledged)
    book.wait(REAP_AFTER_S)
    book.get(context=Context.EMPTY, strict=True)
    assert book.end() == []


# ── dots, settled, drained, bounded ──


def test_one_dot_for_two_values_is_found(book: Book) -> None:
    one = book.put(dot(1))
    other = book.failed_put(indeterminate=True)
    book.seen(dot(1), other, where="n1 → n3")
    (violation,) = book.end(one)
    assert violation.checker == "dots"
    assert f"the dot {dot(1).actor.hex()}:1 was issued twice" in violation.text
    assert "seen at n1 → n3" in violation.text


def test_one_dot_for_one_value_may_be_seen_often(book: Book) -> None:
    put = book.put(dot(1))
    book.seen(dot(1), put, where="n1 → n3")
    assert book.end(put) == []


def test_two_ring_entries_of_one_number_are_found(book: Book) -> None:
    one, other = entries.pack(an_entry()), entries.pack(an_entry(a_row("a"), a_row("d")))
    sightings = book.history.sightings
    sightings.ring(one, where="a → b", now=1.0)
    sightings.ring(one, where="b → c", now=2.0)
    assert book.end() == []
    sightings.ring(other, where="c → d", now=3.0)
    (violation,) = book.end()
    assert violation.checker == "ring"
    assert "two ring entries 1" in violation.text
    assert "one seen at a → b at 1.000 s, another at c → d" in violation.text


def test_owners_with_equal_bytes_are_settled(book: Book) -> None:
    put = book.put(dot(1))
    book.copies = dict.fromkeys(("n1", "n2", "n3"), record_of((dot(1), 1)).pack())
    assert book.end(put) == []


def test_owners_that_differ_are_not(book: Book) -> None:
    put = book.put(dot(1))
    packed = record_of((dot(1), 1)).pack()
    book.copies = {"n1": packed, "n2": packed, "n3": b"", "n4": b""}
    (violation,) = book.end(put)
    assert violation.checker == "settled"
    assert "n1 has 1 | <Context " in violation.text
    assert violation.text.endswith("n3 has nothing")


def test_nor_is_a_key_of_which_others_have_a_copy(book: Book) -> None:
    put = book.put(dot(1))
    book.copies = dict.fromkeys(("n1", "n2", "n3", "n5"), record_of((dot(1), 1)).pack())
    (violation,) = book.end(put)
    assert violation.text == "n5 still has a copy and is no owner; n1, n2, n3 are"


def test_a_key_that_cannot_be_read_in_the_end_is_not_settled(book: Book) -> None:
    book.put(dot(1))
    ending = book.ending()
    ending.reads[KEY].fail(book.now, failure(indeterminate=False))
    (violation,) = check(book.history, ending)
    assert violation.checker == "settled"
    assert violation.text.endswith("QuorumNotMet: 1 of 2")


def test_what_is_left_is_told(book: Book) -> None:
    book.left = ("n1 holds 3 hints",)
    put = book.put(dot(1))
    (violation,) = book.end(put)
    assert str(violation).endswith("s: n1 holds 3 hints")
    assert violation.checker == "drained"


def test_a_context_with_more_actors_than_processes_ever_started_is_found(book: Book) -> None:
    put = book.put(dot(1))
    actors = context_of(*(dot(1, who=who) for who in range(1, 3 * ACTORS_PER_START_MAX + 1)))
    book.copies = dict.fromkeys(("n1", "n2", "n3"), record_of(context=actors).pack())
    assert book.end(put) == []
    actors = actors.add(dot(1, who=100))
    book.copies = dict.fromkeys(("n1", "n2", "n3"), record_of(context=actors).pack())
    (violation,) = book.end(put)
    assert violation.checker == "bounded"
    assert "has 13 actors after 3 process starts" in violation.text
    book.history.again(KEY, b"r" * 16)
    assert book.end(put) == [], "a write that was done again brings an actor of its own"
    book.history.again(KEY, b"r" * 16)
    book.copies["n1"] = record_of(context=actors.add(dot(1, who=101))).pack()
    assert "bounded" in names(book.end(put)), "but one only"
