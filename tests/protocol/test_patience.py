"""How long answers are waited for: as configured, unless a node takes longer than that all the time."""

from __future__ import annotations

import pytest

from dyno.protocol.patience import Patience


def a_patience() -> Patience:
    return Patience(least_s=0.05, most_s=0.5)


def test_quick_answers_change_nothing() -> None:
    patience = a_patience()
    assert patience.wait_s(("b", "c")) == 0.05
    for _ in range(100):
        patience.took("b", 0.02, 1.0)
    assert patience.slow == {}
    assert patience.wait_s(("b", "c")) == 0.05


def test_one_who_takes_long_is_slow_and_waited_for_twice_that_long() -> None:
    patience = a_patience()
    patience.took("b", 0.06, 1.0)
    assert patience.slow == {"b": 1.0}
    assert patience.wait_s(("b",)) == 0.12
    assert patience.wait_s(("c",)) == 0.05
    assert patience.wait_s(("c", "b")) == 0.12
    patience.took("b", 10.0, 2.0)
    assert patience.wait_s(("b",)) == 0.5, "but there is an end to it"


def test_what_gets_quick_again_is_slow_no_more() -> None:
    patience = a_patience()
    patience.took("b", 0.06, 1.0)
    answers = 0
    while patience.slow:
        patience.took("b", 0.001, 2.0)
        answers += 1
    assert 3 < answers < 50
    assert patience.wait_s(("b",)) == 0.05


def test_a_pause_makes_no_slow_node_but_several_do() -> None:
    patience = a_patience()
    patience.took("b", 0.001, 1.0)
    patience.took("b", 0.09, 1.0)
    assert patience.slow == {}
    patience.took("b", 0.09, 1.0)
    assert list(patience.slow) == ["b"]


def test_late_answers_teach_as_well_each_of_them_once() -> None:
    patience = a_patience()
    patience.overdue(7, ["b"], 1.0, 1.05)
    patience.came_late(7, "c", 1.2)  # was not asked, or had answered
    patience.came_late(8, "b", 1.2)
    assert patience.slow == {"b": 1.05}
    assert patience.wait_s(("b",)) == 0.05
    patience.came_late(7, "b", 1.2)
    assert patience.slow == {"b": 1.2}
    assert patience.wait_s(("b",)) == pytest.approx(0.4)
    patience.came_late(7, "b", 9.9)  # twice
    assert patience.slow == {"b": 1.2}


def test_who_is_late_once_is_slow_until_his_answer_comes() -> None:
    patience = a_patience()
    patience.took("b", 0.001, 1.0)
    patience.overdue(7, ["b", "c"], 1.0, 1.05)
    assert list(patience.slow) == ["b", "c"]
    patience.came_late(7, "b", 1.06)
    assert list(patience.slow) == ["c"], "it was a little late, once"


def test_late_answers_that_are_of_interest_are_bounded() -> None:
    patience = a_patience()
    for number in range(5000):
        patience.overdue(number, ["b"], 1.0, 1.05)
    assert len(patience._overdue) == 1000
    patience.came_late(0, "b", 2.0)
    assert patience.slow == {"b": 1.05}
    patience.came_late(4999, "b", 2.0)
    assert patience.slow == {"b": 2.0}


def test_after_a_while_or_a_lost_link_a_node_has_another_chance() -> None:
    patience = a_patience()
    patience.took("b", 0.1, 1.0)
    patience.took("c", 0.1, 5.0)
    patience.forget_old(10.9)
    assert list(patience.slow) == ["b", "c"]
    patience.forget_old(11.0)
    assert list(patience.slow) == ["c"]
    patience.lost("c")
    patience.lost("c")
    assert patience.slow == {}
    assert patience.wait_s(("b", "c")) == 0.05


def test_a_bound_below_the_least_is_the_least() -> None:
    patience = Patience(least_s=1.0, most_s=0.5)
    patience.took("b", 3.0, 1.0)
    assert patience.wait_s(("b",)) == 1.0
