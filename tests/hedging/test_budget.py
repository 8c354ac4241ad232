"""Further attempts are a fraction of first ones, with a floor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.hedging.budget import EARNED_PER_FIRST, FLOOR_PER_S, TOKENS_AT_START, TOKENS_MAX, Budget


def drain(budget: Budget, now: float) -> int:
    taken = 0
    while budget.take(now):
        taken += 1
    return taken


def test_a_new_client_has_some():
    assert drain(Budget(), 100.0) == TOKENS_AT_START


def test_first_attempts_earn_a_fraction():
    budget = Budget()
    drain(budget, 0.0)
    budget.firsts += 1000
    assert drain(budget, 0.0) == 1000 * EARNED_PER_FIRST


def test_a_quiet_client_can_always_try_again():
    budget = Budget()
    drain(budget, 0.0)
    assert not budget.take(0.05)
    assert budget.token_at == pytest.approx(0.1)
    assert budget.take(budget.token_at)
    assert not budget.take(budget.token_at - 1e-3)
    assert drain(budget, 3.1) == 3 * FLOOR_PER_S


def test_nobody_saves_more_than_the_most():
    budget = Budget()
    budget.firsts += 10**6
    assert drain(budget, 10.0**6) == TOKENS_MAX
    drain(budget, 2 * 10.0**6)
    for _ in range(2000):
        budget.give_back()
    assert drain(budget, 2 * 10.0**6) == TOKENS_MAX


def test_what_was_given_back_can_be_spent_again():
    budget = Budget()
    drain(budget, 0.0)
    budget.give_back()
    assert drain(budget, 0.0) == 1


def test_a_retry_that_was_answered_pays_for_the_next_one():
    budget = Budget()
    drain(budget, 0.0)
    budget.give_back()
    for _ in range(100):
        assert budget.take(0.0)
        assert not budget.take(0.0)
        budget.give_back()


def test_who_leaves_some_leaves_them():
    budget = Budget()
    taken = 0
    while budget.take(0.0, leave=40):
        taken += 1
    assert taken == TOKENS_AT_START - 40
    assert drain(budget, 0.0) == 40


def test_a_clock_that_stands_still_or_steps_back_earns_nothing():
    budget = Budget()
    drain(budget, 5.0)
    assert not budget.take(5.0)
    assert not budget.take(4.0)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 0.5)), max_size=50))
def test_no_more_is_ever_spent_than_was_earned(steps):
    budget, now, spent = Budget(), 1000.0, drain(Budget(), 0.0) - TOKENS_AT_START
    budget.take(now)
    spent = 1
    for firsts, seconds in steps:
        budget.firsts += firsts
        now += seconds
        spent += drain(budget, now)
        earned = TOKENS_AT_START + budget.firsts * EARNED_PER_FIRST + (now - 1000.0) * FLOOR_PER_S
        assert spent <= earned + 1e-3
        assert budget.token_at >= now - 1e-3


def test_the_token_that_was_waited_for_is_there_at_any_hour():
    for hour in (0.0, 1e3, 1e6, 1e9):
        budget, now = Budget(), hour
        drain(budget, now)
        for _ in range(100):
            assert not budget.take(now)
            now = budget.token_at
            assert budget.take(now)
