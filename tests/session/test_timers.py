"""A coarse wheel: cheap to add, cheap to remove, never early."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.session.calls import Call
from dyno.session.timers import RESOLUTION_S, Timers


def a_call(id: int) -> Call:
    return Call(id, None, bucket=b"", deadline=0.0, weight=0)


def test_without_calls_there_is_nothing_to_wait_for():
    timers = Timers()
    assert timers.next() == math.inf
    assert timers.due(1e9) == []


def test_a_call_is_due_shortly_after_its_time_and_once():
    timers, call = Timers(), a_call(1)
    timers.add(call, 10.0)
    assert 10.0 < timers.next() <= 10.0 + RESOLUTION_S
    assert timers.due(10.0) == []
    assert timers.due(timers.next()) == [call]
    assert timers.next() == math.inf


def test_calls_of_one_step_are_due_in_the_order_of_adding():
    timers = Timers()
    calls = [a_call(id) for id in (3, 1, 2)]
    for call in calls:
        timers.add(call, 10.0)
    assert timers.due(11.0) == calls


def test_what_was_removed_is_not_due_and_not_waited_for():
    timers, gone, stays = Timers(), a_call(1), a_call(2)
    timers.add(gone, 10.0)
    timers.add(stays, 20.0)
    timers.remove(gone)
    assert timers.next() >= 20.0
    assert timers.due(30.0) == [stays]


def test_a_time_that_is_past_already_is_due_at_once():
    timers, call = Timers(), a_call(1)
    timers.add(call, 5.0)
    assert timers.due(100.0) == [call]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=40), st.floats(0, 1000))
def test_exactly_those_are_due_whose_time_has_come(plan, now):
    timers = Timers()
    expected = []
    for id, (at, removed) in enumerate(plan):
        call = a_call(id)
        timers.add(call, at)
        if removed:
            timers.remove(call)
        else:
            expected.append((at, call))
    due = timers.due(now)
    for at, call in expected:
        assert (call in due) or at > now - RESOLUTION_S, "not late by more than a step"
        assert (call not in due) or at <= now, "never early"
    left = [at for at, call in expected if call not in due]
    assert (timers.next() < math.inf) == bool(left)
