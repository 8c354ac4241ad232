"""What happened: a digest of everything, a story of the last of it."""

from __future__ import annotations

from dyno.simulator.trace import Trace
from dyno.wire.messages import Read, ReadAnswer, Stored


def noted(*events: tuple[float, str, str, object], kept: int = 100) -> Trace:
    trace = Trace(kept=kept)
    for event in events:
        trace.note(*event)  # type: ignore[arg-type]
    return trace


STORED = (1.0, "n1", "n2", Stored(1, 0))


def test_equal_events_have_equal_digests() -> None:
    assert noted(STORED).digest() == noted(STORED).digest()
    assert len(noted(STORED).digest()) == 32


def test_every_bit_of_an_event_counts() -> None:
    digests = [
        noted(event).digest()
        for event in (
            STORED,
            (1.5, "n1", "n2", Stored(1, 0)),
            (1.0, "n3", "n2", Stored(1, 0)),
            (1.0, "n1", "n3", Stored(1, 0)),
            (1.0, "n1", "n2", Stored(1, 1)),
            (1.0, "n1", "n2", "Stored(id=1, status=0)"),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert noted(STORED, STORED).digest() not in digests


def test_asking_for_the_digest_changes_nothing() -> None:
    asked, silent = Trace(kept=1), Trace(kept=1)
    for number in range(2000):
        for trace in (asked, silent):
            trace.note(float(number), "n1", "n2", Stored(number, 0))
        if number % 7 == 0:
            asked.digest()
    assert asked.digest() == silent.digest()
    assert asked.count == 2000


def test_a_story_tells_who_said_what_to_whom_and_when() -> None:
    trace = noted(
        STORED,
        (2.25, "n1", "", "info: founded a cluster"),
        (3.0, "n2", "n1", ReadAnswer(7, 0, bytes(20))),
        (4.0, "n1", "n2", Read(8, 9, b"")),
    )
    assert trace.story(10).splitlines() == [
        "    1.000000  n1 → n2                  Stored(id=1, status=0, commit=0)",
        "    2.250000  n1                       info: founded a cluster",
        f"    3.000000  n2 → n1                  ReadAnswer(id=7, status=0, record={'00' * 12}…[20])",
        "    4.000000  n1 → n2                  Read(id=8, ring=9)",
    ]


def test_a_story_is_as_long_as_asked_for_and_as_what_was_kept() -> None:
    events = [(float(number), "n1", "n2", Stored(number, 0)) for number in range(10)]
    assert len(noted(*events).story(3).splitlines()) == 3
    assert "id=9" in noted(*events).story(1)
    assert len(noted(*events, kept=4).story(10).splitlines()) == 4
