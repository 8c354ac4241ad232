"""The judge of random schedules finds what is wrong, and nothing else."""

from __future__ import annotations

import pytest

from dyno.errors import QuorumNotMet
from tests.protocol.stories.read_history import History, Written

KEY = ("bucket", "key 0")
FAILED = QuorumNotMet("2 are needed, none is alive", needed=2, answered=0, nodes=(), indeterminate=False)
DOUBTFUL = QuorumNotMet("2 are needed, 1 answered", needed=2, answered=1, nodes=(), indeterminate=True)


def a_history(*, deletes: bool = False) -> History:
    """1 was overwritten by 2, at 2.0 s; somebody deletes 2, perhaps. Blindly 3 was written, and 4 refused."""
    history = History()
    for at, written in enumerate((Written(KEY, 1, ()), Written(KEY, 2, (1,)), Written(KEY, 3, ())), 1):
        history.begin(written)
        history.end(written, None, float(at))
    refused = Written(KEY, 4, (2, 3))
    history.begin(refused)
    history.end(refused, FAILED, 4.0)
    if deletes:
        history.begin(Written(KEY, 0, (1, 2)))
    return history


@pytest.mark.parametrize(
    ("found", "began", "complaint"),
    [
        ([2, 3], 5.0, ""),
        ([3, 2], 2.5, ""),  # what is not acknowledged when a read begins may show
        ([2], 2.5, ""),
        ([1], 1.5, ""),
        ([2], 3.0, r"value=3.*is missing"),
        ([1, 3], 5.0, r"value=2.*is missing"),
        ([1, 2, 3], 5.0, r"value=2.*is undone"),
        ([3], 5.0, "is missing"),
        ([2, 2, 3], 5.0, "is there twice"),
        ([2, 3, 4], 5.0, "4 .* was said not to be done"),
        ([2, 3, 5], 5.0, "5 .* was never written"),
    ],
)
def test_the_judge_knows_what_a_read_may_give(found: list[int], began: float, complaint: str) -> None:
    if not complaint:
        a_history().check(KEY, found, began)
    else:
        with pytest.raises(AssertionError, match=complaint):
            a_history().check(KEY, found, began)


def test_what_somebody_deletes_may_be_missing_with_all_that_he_knew() -> None:
    history = a_history(deletes=True)
    history.check(KEY, [3], 5.0)
    history.check(KEY, [2, 3], 5.0)
    with pytest.raises(AssertionError, match=r"value=3.*is missing"):
        history.check(KEY, [2], 5.0)
    with pytest.raises(AssertionError, match=r"value=3.*is not listed"):
        history.check_listing("bucket", [], 5.0)
    history.check_listing("bucket", [], 2.5)
    history.check_listing("bucket", ["key 0"], 5.0)
    history.check_listing("wide", [], 5.0)


def test_what_was_shown_cannot_be_said_not_to_be_done() -> None:
    history, written = History(), Written(KEY, 1, ())
    history.begin(written)
    history.check(KEY, [1], 1.0)
    with pytest.raises(AssertionError, match="was shown, and then said not to be done"):
        history.end(written, FAILED, 2.0)


def test_what_may_be_done_may_show_or_not_and_overwrite_what_its_author_had_read() -> None:
    history, first, second = History(), Written(KEY, 1, ()), Written(KEY, 2, (1,))
    for written, error in ((first, None), (second, DOUBTFUL)):
        history.begin(written)
        history.end(written, error, 1.0)
    for found in ([1], [2], [1, 2]):
        history.check(KEY, found, 2.0)
    with pytest.raises(AssertionError, match=r"value=1.*is missing"):
        history.check(KEY, [], 2.0)
    assert history.counts == {"write": 1, "write: QuorumNotMet": 1}
