"""What is recorded of a call, and of the dots that pass by."""

from __future__ import annotations

import pytest

from dyno.causality.context import Context
from dyno.errors import InvalidRequest, RequestTimeout
from dyno.simulator.history import DELETE, GET, NOT_DONE, OK, PUT, UNDER_WAY, UNKNOWN, UPDATE, History, Key
from dyno.wire import values
from tests.simulator.hand_made import CLUSTER, KEY, Book, context_of, dot, failure, record_of, token_of


def a_history() -> History:
    return History(cluster=CLUSTER, copies={"plain": 3})


def test_every_value_is_the_number_of_its_write() -> None:
    history = a_history()
    read = history.begin("ann", GET, KEY, now=1.0, quorum=2)
    put = history.begin("bob", PUT, KEY, now=2.0, quorum=2)
    update = history.begin("bob", UPDATE, KEY, now=2.0, quorum=2)
    delete = history.begin("bob", DELETE, KEY, now=2.0, quorum=2)
    assert [read.value, put.value, update.value, delete.value] == [None, 2, 3, None]
    assert [history.of_value(value) for value in (0, 1, 2, 3, 4, 5)] == [None, None, put, update, None, None]
    assert [one.writes for one in (read, put, update, delete)] == [False, True, True, True]
    assert history.by_key() == {KEY: [read, put, update, delete]}


def test_a_call_ends_in_one_of_three_ways() -> None:
    history = a_history()
    put = history.begin("ann", PUT, KEY, now=1.0, quorum=2)
    assert (put.outcome, put.acknowledged, put.perhaps_done) == (UNDER_WAY, False, True)
    put.fail(2.0, failure(indeterminate=True))
    assert (put.outcome, put.perhaps_done, put.ended, put.answered) == (UNKNOWN, True, 2.0, ("n1",))
    put.fail(3.0, InvalidRequest("no"))
    assert (put.outcome, put.perhaps_done, put.error) == (NOT_DONE, False, "InvalidRequest: no")
    put.fail(3.0, RequestTimeout("late", needed=1, answered=0, nodes=(), indeterminate=True))
    assert put.outcome == UNKNOWN
    put.succeed(4.0, returned=b"x", answered=("n1", "n2"))
    assert (put.outcome, put.acknowledged, put.returned) == (OK, True, b"x")
    assert repr(put) == "<put plain/k #1 by ann: ok>"


def test_a_bug_is_no_outcome() -> None:
    put = a_history().begin("ann", PUT, KEY, now=1.0, quorum=2)
    with pytest.raises(ZeroDivisionError):
        put.fail(2.0, ZeroDivisionError())


def test_a_write_has_read_what_the_operation_before_it_showed() -> None:
    book = Book()
    put = book.put(dot(1))
    read = book.get(put, context=context_of(dot(1)))
    assert put.read() == ()
    assert book.begin_put(after=read).read() == (put.value,)
    assert book.begin_put(after=put).read() == (put.value,)
    assert book.update(dot(2), put).read() == (put.value,)
    assert book.begin_put(after=book.delete(after=read)).read() == ()


def test_a_token_is_bound_to_its_key() -> None:
    history = a_history()
    context = context_of(dot(1), dot(1, who=2))
    assert history.context(KEY, token_of(context)) == context
    assert history.context(KEY, b"") == Context.EMPTY
    with pytest.raises(InvalidRequest):
        history.context(Key("plain", "other"), token_of(context, Key("plain", "k2")))


def test_dots_are_known_by_the_records_that_pass() -> None:
    sightings = a_history().sightings
    record = record_of((dot(1), 7), (dot(1, who=2), 8))
    packed = record.pack()
    sightings.record(KEY, b"", where="n1 → n2", now=0.0)
    sightings.record(KEY, packed, where="n1 → n2", now=1.0)
    sightings.record(KEY, packed, where="n1 → n3", now=1.0)
    assert sightings.dots_of(7) == [dot(1)]
    assert sightings.dots_of(9) == []
    assert sightings.largest == {KEY: (len(packed), "n1 → n2", 1.0)}
    sightings.unpacked(KEY, record_of((dot(2), 7)), where="ann", now=2.0)
    assert sightings.dots_of(7) == [dot(1), dot(2)]
    assert sightings.clashes == []


def test_a_dot_with_two_values_is_a_clash() -> None:
    sightings = a_history().sightings
    sightings.unpacked(KEY, record_of((dot(1), 7)), where="n1 → n2", now=1.0)
    sightings.unpacked(Key("plain", "other"), record_of((dot(1), 8)), where="n1 → n2", now=1.0)
    assert sightings.clashes == []
    sightings.unpacked(KEY, record_of((dot(1), 8)), where="n2 → n3", now=2.0)
    (clash,) = sightings.clashes
    assert (clash.dot, clash.first, clash.second) == (dot(1), (7, "n1 → n2", 1.0), (8, "n2 → n3", 2.0))


def test_what_a_put_was_answered_names_its_dot() -> None:
    book = Book()
    history = book.history
    read = book.get(context=context_of(dot(1), dot(2)))
    put = book.begin_put(after=read)
    put.succeed(5.0, returned=token_of(context_of(dot(1), dot(2), dot(5))), answered=("n1",))
    book.failed_put(indeterminate=True, after=read)
    history.note_acknowledged()
    assert put.value is not None
    assert history.sightings.dots_of(put.value) == [dot(5)]
    history.sightings.unpacked(KEY, record_of((dot(5), put.value)), where="n1 → n2", now=6.0)
    assert history.sightings.clashes == []
    history.sightings.unpacked(KEY, record_of((dot(5), 99)), where="n1 → n2", now=6.0)
    (clash,) = history.sightings.clashes
    assert clash.first == (put.value, "n1", 5.0)


def test_what_an_update_was_answered_names_its_dot_beside_what_it_passed_on() -> None:
    history = History(cluster=CLUSTER, copies={"plain": 3})
    update = history.begin("ann", UPDATE, KEY, now=1.0, quorum=1)
    before = context_of(dot(7, who=2))
    assert update.value is not None
    history.passed(values.encode(update.value, bytes_max=100), token_of(before))
    history.passed(values.encode("of somebody else", bytes_max=100), b"")
    update.succeed(2.0, returned=token_of(before.add(dot(1))), answered=("n1",))
    history.note_acknowledged()
    assert history.sightings.dots_of(update.number) == [dot(1)]


def test_a_write_that_was_sent_again_counts_once() -> None:
    history = History(cluster=CLUSTER, copies={"plain": 3})
    for request in (b"one", b"one", b"two"):
        history.again(KEY, request)
    assert history.sent_again == {KEY: 2}
