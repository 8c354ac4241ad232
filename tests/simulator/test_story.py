"""What an ear on a key hears, and how it is told."""

from __future__ import annotations

import math

from dyno.placement.hashing import Keyspace, bucket_id
from dyno.simulator.history import Key
from dyno.simulator.story import LINE_CHARS_MAX, LINES_MAX, Ear, Event, told
from dyno.wire.messages import Done, Found, Get, GetMany, Ping, Read, ReadAnswer, Store
from dyno.wire.rows import pack_row
from tests.simulator.hand_made import Book, context_of, dot, failure

KEY = Key("plain", "k1")
SLOT = Keyspace(b"cluster", 64).slot(bucket_id("plain"), b"k1", 3)
OTHER = Keyspace(b"cluster", 64).slot(bucket_id("plain"), b"k2", 3)


def heard(ear: Ear) -> list[str]:
    return [event.text for event in ear.events]


def test_it_hears_what_names_its_key() -> None:
    ear = Ear(KEY)
    ear.hear(1.0, "client-1", "n1", Get(1, "plain", b"k1", 2, 0, 1000, False))
    ear.hear(1.0, "client-1", "n1", Get(2, "plain", b"k2", 2, 0, 1000, False))
    ear.hear(1.0, "client-1", "n1", Get(3, "wide", b"k1", 2, 0, 1000, False))
    ear.hear(1.0, "client-1", "n1", GetMany(4, "plain", pack_row([b"k2", b"k1"]), 2, 0, 1000))
    ear.hear(1.0, "client-1", "n1", GetMany(5, "plain", pack_row([b"k2"]), 2, 0, 1000))
    ear.hear(2.0, "n1", "n2", Read(6, 7, SLOT))
    ear.hear(2.0, "n1", "n2", Read(7, 7, OTHER))
    ear.hear(2.0, "n1", "n2", Store(0, 7, SLOT, b"k1", b""))
    ear.hear(2.0, "n1", "n2", Ping(1, "n2", b"", "n1", b""))
    assert [text.split()[4].partition("=")[2].strip("(,") for text in heard(ear)] == ["1", "4", "6", "0"]
    assert heard(ear)[0].startswith("    1.000000  client-1 → n1            Get(id=1, bucket=plain, key=6b31")


def test_it_hears_the_answers_to_what_it_heard() -> None:
    ear = Ear(KEY)
    ear.hear(1.0, "client-1", "n1", Get(1, "plain", b"k1", 2, 0, 1000, False))
    ear.hear(2.0, "n1", "n2", Read(1, 7, SLOT))
    ear.events.clear()
    ear.hear(3.0, "n3", "n1", ReadAnswer(1, 0, b""))
    ear.hear(3.0, "n1", "client-2", Found(1, b"", "", ""))
    assert heard(ear) == []
    ear.hear(3.0, "n2", "n1", ReadAnswer(1, 0, b""))
    ear.hear(4.0, "n1", "client-1", Found(1, b"", "", ""))
    ear.hear(4.0, "n1", "client-1", Done(1, b"", "", ""))
    assert len(heard(ear)) == 2


def test_it_hears_what_goes_wrong_and_what_its_users_say() -> None:
    ear = Ear(KEY)
    ear.hear(1.0, "n1", "n2", "the cable is cut")
    ear.hear(1.0, "client-1", "", "put plain/k1 7")
    ear.hear(1.0, "client-1", "", "put plain/k2 7")
    ear.hear(1.0, "client-1", "", "get plain/k10")
    assert [text.split(maxsplit=1)[1].split()[-1] for text in heard(ear)] == ["cut", "7"]


def test_it_keeps_what_is_in_its_time_and_knows_what_was_asked_before() -> None:
    ear = Ear(KEY, since=2.0, until=3.0)
    ear.hear(1.0, "n1", "n2", Read(1, 7, SLOT))
    ear.hear(2.5, "n2", "n1", ReadAnswer(1, 0, b""))
    ear.hear(3.5, "n1", "n2", Read(2, 7, SLOT))
    assert len(heard(ear)) == 1


def test_events_and_operations_are_told_in_order() -> None:
    book = Book()
    put = book.put(dot(1), strict=True)
    book.get(put, context=context_of(dot(1)), client="bob")
    over = book.begin_put(after=put)
    over.fail(book.now + 1, failure(indeterminate=True))
    book.begin_put()
    lines = told([Event(2.5, "the cable is cut")], book.history.operations, at=0.0)
    assert [line.split("==")[-1].strip() for line in lines] == [
        "put #1 of plain/k, W=2, strict: ok by n1, n2, begun at 1.000000",
        "the cable is cut",
        "get #2 saw 1 of plain/k, R=2: ok by n1, n2, begun at 3.000000",
        "put #3 after put #1 of plain/k, W=2: perhaps done by n1, begun at 5.000000 (QuorumNotMet: 1 of 2)",
    ]


def test_of_too_many_lines_the_nearest_are_told_and_none_is_too_long() -> None:
    events = [Event(float(at), f"{at} " + "x" * LINE_CHARS_MAX) for at in range(3 * LINES_MAX)]
    lines = told(events, [], at=1.5 * LINES_MAX)
    assert len(lines) == LINES_MAX
    assert int(lines[0].split()[0]) == LINES_MAX
    assert {len(line) for line in lines} == {LINE_CHARS_MAX}
    assert math.isfinite(events[0].at)
