"""Who is to be compared with at once."""

from __future__ import annotations

import math

from dyno.protocol.urgency import PAUSE_S, Urgency


def test_nobody_is_in_a_hurry_by_itself() -> None:
    urgency = Urgency()
    assert not urgency
    assert not urgency.due("n2", None, 1.0)
    assert urgency.deadline(lambda name: True) == math.inf
    urgency.asked("n2", 1.0)
    urgency.want({"n2": 1.0})
    assert urgency.due("n2", None, 1.0)


def test_an_exchange_counts_that_began_since_then() -> None:
    urgency = Urgency()
    urgency.want({"n2": 5.0})
    assert urgency
    assert urgency.due("n2", None, 6.0)
    assert urgency.due("n2", 4.9, 6.0)
    assert not urgency.due("n2", 5.0, 6.0)
    assert not urgency.due("n3", None, 6.0)


def test_one_that_was_asked_has_a_pause() -> None:
    urgency = Urgency()
    urgency.want({"n2": 5.0, "n3": 5.0})
    urgency.asked("n2", 6.0)
    assert not urgency.due("n2", None, 6.0 + PAUSE_S / 2)
    assert urgency.due("n2", None, 6.0 + PAUSE_S)
    assert urgency.deadline(lambda name: name == "n2") == 6.0 + PAUSE_S
    assert urgency.deadline(lambda name: True) == -math.inf
    urgency.want({"n3": 5.0})
    urgency.want({"n2": 7.0})
    assert urgency.due("n2", None, 6.1), "what is wanted anew has none"
