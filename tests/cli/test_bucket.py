"""bucket create and bucket list against one real node."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    return f"bucket{next(_numbers)}"


@pytest.fixture
def at(command: Dyno, node: str) -> Dyno:
    """Command lines that talk to the node."""
    return lambda *words: command("bucket", words[0], "--node", node, *words[1:])


def test_create_is_silent_and_may_be_repeated(at: Dyno, name: str) -> None:
    for _ in range(2):
        assert at("create", name, "-n", "5", "-r1", "-w", "all") == (0, b"", "")


def test_create_tells_what_the_bucket_is_as_json(at: Dyno, name: str) -> None:
    ended = at("create", name, "-n5", "--kind", "siblings", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {"name": name, "n": 5, "r": "quorum", "w": "quorum", "kind": "siblings"}


def test_what_was_created_is_listed(at: Dyno, name: str) -> None:
    at("create", name, "-n", "5", "-w", "2")
    ended = at("list")
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0].split() == ["name", "n", "r", "w", "kind"]
    assert [name, "5", "quorum", "2", "siblings"] in [line.split() for line in ended.lines]
    listed = json.loads(at("list", "--json").out)
    assert listed[name] == {"n": 5, "r": "quorum", "w": 2, "kind": "siblings"}
    assert list(listed) == sorted(listed)


def test_a_name_cannot_drive_the_terminal(at: Dyno, name: str) -> None:
    assert at("create", f"{name}\x1b[2J").code == 0
    assert f"{name}\\x1b[2J" in at("list").out.decode()


def test_a_terminal_gets_a_table(at: Dyno, node: str, name: str) -> None:
    at("create", name)
    ours, its = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    words = [sys.executable, "-m", "dyno", "bucket", "list", "--node", node]
    subprocess.run(words, stdout=its, env=environment, check=True)
    os.close(its)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "\x1b[1mname" in shown
    assert name in shown


def test_what_a_bucket_was_created_with_stays(at: Dyno, name: str) -> None:
    at("create", name, "-n", "5")
    ended = at("create", name)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err == (
        f"dyno: bucket {name!r} was created with n=5, r=quorum, w=quorum, kind=siblings; "
        "that cannot be changed\n"
    )


def test_a_bucket_that_holds_data_keeps_the_defaults(command: Dyno, node: str, at: Dyno, name: str) -> None:
    command("put", "--node", node, name, "key", "value")
    ended = at("create", name, "-n", "2")
    assert (ended.code, ended.out) == (2, b"")
    assert "holds data, so it keeps the defaults" in ended.err
    assert at("create", name).code == 0
    assert command("get", "--node", node, name, "key").out == b"value\n"


def test_a_bucket_of_its_own_properties_is_used(command: Dyno, node: str, at: Dyno, name: str) -> None:
    at("create", name, "-n", "5", "-r", "4")
    command("put", "--node", node, name, "key", "value")
    ended = command("get", "--node", node, name, "key")
    assert ended.code == 4  # there is one member
    assert "4 owners of the key are needed, 1 of 1 are alive" in ended.err
    assert command("get", "--node", node, name, "key", "-r", "all").out == b"value\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", "0"), "n=0 is not possible; a bucket keeps 1 to 9 copies"),
        (("-n", "-1"), "n=-1 is not possible; a bucket keeps 1 to 9 copies"),
        (("-n", "five"), "-n: 'five' is no number of copies"),
        (("-n", "2", "-r", "3"), "r=3 is more than the bucket's n=2"),
        (("-w", "most"), "-w: 'most' is not a quorum; give a number, one, quorum or all"),
        (("--kind", "lww"), "there is no bucket kind 'lww'; known: siblings"),
    ],
)
def test_what_can_be_no_bucket_is_refused_before_a_node_is_looked_for(
    command: Dyno, words: tuple[str, ...], said: str
) -> None:
    assert command("bucket", "create", "x", *words, "--node", "127.0.0.1:1") == (2, b"", f"dyno: {said}\n")


def test_a_name_that_is_no_text_is_refused(command: Dyno) -> None:
    ended = command("bucket", "create", "\udcff")
    assert (ended.code, ended.out) == (2, b"")
    assert "NAME '\\udcff' is not valid UTF-8" in ended.err


def test_without_a_node_there_is_advice(command: Dyno) -> None:
    for words in (("create", "x"), ("list",)):
        ended = command("bucket", *words, "--node", "127.0.0.1:1")
        assert (ended.code, ended.out) == (5, b"")
        assert "no listed node could be reached" in ended.err
