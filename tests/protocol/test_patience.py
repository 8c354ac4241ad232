"""How long answers are waited for: as long as 95 in 100 of them took, within a budget."""

from __future__ import annotations

import pytest

from dyno.protocol.patience import FORGET_S, LEAST_S, Patience


def a_patience() -> Patience:
    return Patience(hedge_after_s=0.05, most_s=0.5)


def test_who_is_not_known_yet_has_the_configured_time() -> None:
    assert a_patience().wait_s(("b", "c")) == 0.05


def test_quick_nodes_are_late_soon() -> None:
    patience = a_patience()
    for _ in range(1000):
        patience.took("b", 0.001, 1.0)
    assert patience.slow == {}
    assert patience.wait_s(("b",)) == LEAST_S
    assert patience.wait_s(("b", "c")) == 0.05, "the slowest of them counts"


def test_one_who_takes_long_all_the_time_is_slow_and_waited_for_so_long() -> None:
    patience = a_patience()
    for _ in range(10):
        patience.took("b", 0.06, 1.0)
    assert patience.slow == {"b": 1.0}
    assert 0.05 < patience.wait_s(("b",)) < 0.08
    for _ in range(100):
        patience.took("b", 10.0, 2.0)
    assert patience.wait_s(("b",)) == 0.5, "but there is an end to it"


def test_what_gets_quick_again_is_slow_no_more() -> None:
    patience = a_patience()
    for _ in range(10):
        patience.took("b", 0.06, 1.0)
    answers = 0
    while patience.slow:
        patience.took("b", 0.001, 2.0)
        answers += 1
    assert answers < 100


def test_who_is_late_is_slow_until_its_answer_comes() -> None:
    patience = a_patience()
    for _ in range(100):
        patience.took("b", 0.001, 1.0)
        patience.took("c", 0.001, 1.0)
    patience.overdue(7, ["b", "c"], 1.0, 1.02)
    assert patience.slow == {"b": 1.02, "c": 1.02}
    patience.came_late(7, "d", 1.03)  # was not asked, or had answered
    patience.came_late(8, "b", 1.03)
    assert list(patience.slow) == ["b", "c"]
    patience.came_late(7, "b", 1.03)
    assert list(patience.slow) == ["c"], "it was a little late, once"


def test_who_is_overloaded_is_slow_until_it_answers() -> None:
    patience = Patience(hedge_after_s=0.05, most_s=0.5)
    patience.refused("b", 1.0)
    assert patience.slow == {"b": 1.0}
    assert patience.wait_s(["b"]) == 0.05
    patience.took("b", 0.001, 2.0)
    assert patience.slow == {}


def test_a_pause_is_one_sample_however_many_questions_it_makes_late() -> None:
    patience, other = a_patience(), a_patience()
    for number in range(50):
        patience.overdue(number, ["b"], 1.0, 1.05)
    other.overdue(1, ["b"], 1.0, 1.05)
    assert patience.wait_s(("b",)) == other.wait_s(("b",))


def test_late_answers_teach_each_of_them_once() -> None:
    patience = a_patience()
    patience.overdue(7, ["b"], 1.0, 1.05)
    patience.came_late(7, "b", 9.0)
    taught = patience.wait_s(("b",))
    patience.came_late(7, "b", 9.9)
    assert patience.wait_s(("b",)) == taught


def test_late_answers_that_are_of_interest_are_bounded() -> None:
    patience = a_patience()
    for number in range(5000):
        patience.overdue(number, ["b"], 1.0, 1.05)
    assert len(patience._overdue) == 1000


def test_beginning_anew_is_rationed() -> None:
    patience = a_patience()
    for _ in range(1000):
        patience.wait_s(("b",))
    begun = 0
    while patience.is_over(1.0):
        begun += 1
    assert begun == pytest.approx(200, abs=1), "what a budget starts with, and a tenth of the first ones"


def test_after_a_while_or_a_lost_link_a_node_has_another_chance() -> None:
    patience = a_patience()
    patience.overdue(1, ["b"], 1.0, 1.0)
    patience.overdue(2, ["c"], 5.0, 5.0)
    patience.forget_old(FORGET_S + 0.9)
    assert list(patience.slow) == ["b", "c"]
    patience.forget_old(FORGET_S + 1.0)
    assert list(patience.slow) == ["c"]
    patience.lost("c")
    patience.lost("c")
    assert patience.slow == {}
    assert patience.wait_s(("b", "c")) == 0.05


def test_a_bound_below_the_configured_time_is_that_time() -> None:
    patience = Patience(hedge_after_s=1.0, most_s=0.5)
    for _ in range(100):
        patience.took("b", 3.0, 1.0)
    assert patience.wait_s(("b",)) == 1.0
