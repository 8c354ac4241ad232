"""When what was compared with whom."""

from __future__ import annotations

import math

from dyno.protocol.compared_times import ComparedTimes

A, B, C = b"\0\0\3", b"\0\1\3", b"\0\2\3"


def times() -> ComparedTimes:
    times = ComparedTimes()
    assert times.replan([(A, "n2"), (A, "n3"), (B, "n2")]) == ["n2", "n3"]
    return times


def test_nothing_is_shared() -> None:
    assert ComparedTimes().since == math.inf


def test_all_that_is_shared_counts_from_the_least_recent() -> None:
    compared = times()
    assert compared.since == -math.inf
    assert compared.of_head(A) is compared.of_node("n2") is None
    compared.finished("n2", 1.0, but_for={})
    assert compared.since == -math.inf
    assert compared.of_node("n2") == compared.of_head(A) == 1.0
    compared.finished("n3", 2.0, but_for={})
    assert (compared.since, compared.of_head(A), compared.of_head(B), compared.of_head(C)) == (
        1.0,
        2.0,
        1.0,
        None,
    )


def test_what_was_left_unfinished_keeps_its_time() -> None:
    compared = times()
    compared.finished("n3", 9.0, but_for={})
    compared.finished("n2", 1.0, but_for={})
    compared.finished("n2", 2.0, but_for={B: None})
    compared.finished("n2", 3.0, but_for={B: None})
    assert (compared.since, compared.of_head(B), compared.of_node("n2")) == (1.0, 1.0, 1.0)
    compared.finished_alone((B, "n2"), 4.0)
    assert (compared.since, compared.of_head(B)) == (3.0, 4.0)


def test_what_is_shared_of_one_number_of_copies() -> None:
    compared = times()
    wide = b"\0\0\5"
    compared.replan([(A, "n2"), (B, "n2"), (wide, "n2")])
    assert compared.of_copies("n2", 3) is None
    compared.finished("n2", 1.0, but_for={})
    compared.finished("n2", 2.0, but_for={wide: None})
    assert (compared.of_copies("n2", 3), compared.of_copies("n2", 5)) == (2.0, 1.0)
    assert compared.of_copies("n2", 4) is compared.of_copies("n3", 3) is None


def test_what_is_new_was_never_compared_and_what_is_gone_does_not_count() -> None:
    compared = times()
    for node in ("n2", "n3"):
        compared.finished(node, 1.0, but_for={})
    compared.replan([(A, "n2"), (C, "n2")])
    assert compared.since == -math.inf
    assert (compared.of_head(A), compared.of_head(C), compared.of_head(B)) == (1.0, None, None)
    compared.replan([(A, "n2")])
    assert compared.since == 1.0
