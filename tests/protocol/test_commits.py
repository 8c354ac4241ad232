"""Commit numbers of others: what is known from before a process started, and how that is remembered."""

from __future__ import annotations

import math

import pytest

from dyno.protocol.commits import KEEP_INTERVAL_S, Commits
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import Committed, Hello

DIRECTORY = b"a directory....."
FIRST, SECOND, THIRD = b"start 1.", b"start 2.", b"start 3."


def hello(start: bytes = FIRST, commit: int = 0, directory: bytes = DIRECTORY) -> Hello:
    return Hello(1, 1, "peer", b"c" * 16, 64, "n2", directory, start, "", commit)


def greeted(*hellos: Hello, address: str = "n2:1") -> Commits:
    commits = Commits(b"")
    for said in hellos:
        commits.greeted(address, said, 1.0)
    return commits


def test_a_process_is_told_what_was_known_before_it_started() -> None:
    commits = greeted(hello(commit=5))
    commits.heard("n2:1", 9, 1.0)
    commits.heard("n2:1", 7, 1.0)  # late
    assert commits.from_before(hello(SECOND, 4)) == 9
    assert commits.from_before(hello(FIRST)) == 0  # all that is known is its own
    assert commits.from_before(hello(directory=b"of somebody else")) == 0


def test_what_a_process_commits_itself_does_not_hide_what_it_has_lost() -> None:
    commits = greeted(hello(commit=9), hello(SECOND, 4))
    commits.heard("n2:1", 50, 1.0)
    assert commits.from_before(hello(SECOND, 50)) == 9
    assert commits.from_before(hello(THIRD, 60)) == 50
    commits.greeted("n2:1", hello(SECOND, 51), 1.0)  # the same process greets again
    assert commits.from_before(hello(SECOND)) == 9


def test_what_a_node_says_of_itself_counts_once_it_has_greeted() -> None:
    commits = greeted(hello(commit=5))
    commits.said(Committed(DIRECTORY, FIRST, 8), 1.0)
    commits.said(Committed(DIRECTORY, FIRST, 6), 1.0)
    commits.said(Committed(DIRECTORY, SECOND, 99), 1.0)
    commits.said(Committed(b"of somebody else", FIRST, 99), 1.0)
    assert commits.from_before(hello(THIRD)) == 8


def test_an_answer_of_a_link_that_is_gone_counts_for_nobody() -> None:
    commits = greeted(hello(commit=5))
    commits.gone("n2:1")
    commits.gone("n2:1")
    commits.heard("n2:1", 9, 1.0)
    assert commits.directory_at("n2:1") == b""
    commits.greeted("elsewhere:1", hello(commit=5), 1.0)
    commits.greeted("n2:1", hello(SECOND, 6), 1.0)  # it has moved: the old link is of an earlier process
    commits.heard("elsewhere:1", 9, 1.0)
    assert commits.directory_at("n2:1") == DIRECTORY
    assert commits.from_before(hello(THIRD)) == 6


def test_numbers_are_kept_once_a_second_and_only_if_they_changed() -> None:
    commits = Commits(b"")
    assert commits.deadline() == math.inf
    assert not commits.due(1.0)
    commits.greeted("n2:1", hello(commit=5), 1.0)
    assert commits.due(1.0)
    assert commits.deadline() == 1.0 + KEEP_INTERVAL_S
    commits.kept([DIRECTORY], 1.5)
    assert commits.deadline() == math.inf
    commits.heard("n2:1", 5, 1.6)
    assert commits.deadline() == math.inf
    commits.heard("n2:1", 6, 1.7)
    assert not commits.due(1.8)
    assert commits.due(1.5 + KEEP_INTERVAL_S)


def test_a_restart_knows_what_was_kept_and_whose_it_was() -> None:
    commits = greeted(hello(commit=9), hello(SECOND, 4))
    commits.greeted("n3:1", hello(FIRST, 7, b"another........."), 1.0)
    again = Commits(commits.kept([], 1.0)["commits"])
    assert again.from_before(hello(SECOND)) == 9
    assert again.from_before(hello(THIRD)) == 9
    assert again.from_before(hello(SECOND, directory=b"another.........")) == 7
    assert again.deadline() == math.inf
    with pytest.raises(ProtocolError):
        Commits(b"cut short")


def test_only_members_and_those_at_the_other_end_of_a_link_are_remembered() -> None:
    commits = greeted(hello(commit=9))
    commits.greeted("n3:1", hello(FIRST, 7, b"another........."), 1.0)
    commits.gone("n2:1")
    commits.gone("n3:1")
    again = Commits(commits.kept([DIRECTORY], 1.0)["commits"])
    assert again.from_before(hello(THIRD)) == 9
    assert again.from_before(hello(THIRD, directory=b"another.........")) == 0
