from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dyno.cli import tables
from dyno.cli.status import COLUMNS, Notice, cells, remarks, summary

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno


def member(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "name": name,
        "address": "127.0.0.1:7101",
        "zone": "",
        "weight": 1.0,
        "state": "normal",
        "liveness": "alive",
        "incarnation": 0,
        "share": 0.5,
        "hints": 0,
    } | facts


def a_status(members: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    return {
        "cluster": "abc",
        "partitions": 64,
        "members": members,
        "hints_for": {},
        "unheard": [],
        "repairs": {},
    } | facts


def repairs(**facts: Any) -> dict[str, Any]:
    return {
        "state": "ready",
        "read_repairs": 0,
        "handed_over": 0,
        "received": 0,
        "sent": 0,
        "healed": 0,
        "compared": 0,
        "merged": 0,
        "aside": 0,
        "compared_s": {},
    } | facts


def plain(facts: dict[str, Any]) -> list[str]:
    rows = [cells(member, facts["unheard"]) for member in facts["members"]]
    return tables.plain(COLUMNS, rows, above=[tables.Remark(summary(facts))], below=remarks(facts))


def test_a_pipe_gets_aligned_text() -> None:
    members = [member("n1", hints=12), member("node-two", zone="b", weight=2.5, liveness="dead", share=1 / 3)]
    facts = a_status(members, hints_for={"n1": 2, "node-two": 10}, unheard=["node-two"])
    assert plain(facts) == [
        "cluster abc: 64 partitions, 1 of 2 members alive",
        "name      address         zone  weight  state   liveness  incarnation  share  hints",
        "n1        127.0.0.1:7101  -          1  normal  alive               0  50.0%     12",
        "node-two  127.0.0.1:7101  b        2.5  normal  dead                0  33.3%      ?",
        "hints that wait, by whom they are for: n1: 2, node-two: 10",
    ]


def test_a_name_from_afar_cannot_drive_the_terminal() -> None:
    facts = a_status([member("n1", zone="\x1b[2J\n")])
    assert "\\x1b[2J" in plain(facts)[2]


def test_what_nodes_repaired_is_told_in_a_line_for_each() -> None:
    some = repairs(
        read_repairs=1, handed_over=2, received=3, sent=4, healed=5, compared_s={"n2": 12.3, "n3": None}
    )
    facts = a_status([member("n1")], repairs={"n1": some, "n2": repairs(state="recovering", aside=6)})
    assert plain(facts)[-3:] == [
        "n1 repaired 1 by reads, 2 by hints, 7 by exchanges, 5 corrupt; compared with n2 12 s ago, n3 never",
        "n2 (recovering) repaired 0 by reads, 0 by hints, 0 by exchanges, 0 corrupt; compared with nobody",
        "records set aside, which dyno repair --quarantine merges: n2: 6",
    ]


def test_status_of_a_real_node(command: Dyno, node: str) -> None:
    ended = command("status", "--node", node)
    assert (ended.code, ended.err) == (0, "")
    assert "1 of 1 members alive" in ended.lines[0]
    assert ended.lines[2].split() == ["n1", node, "-", "1", "normal", "alive", "0", "100.0%", "0"]


def on_a_terminal(node: str, *, columns: int) -> str:
    ours, its = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-m", "dyno", "status", "--node", node], stdout=its, env=environment, check=True
    )
    os.close(its)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    return shown


def test_a_terminal_gets_colours(node: str) -> None:
    shown = on_a_terminal(node, columns=120)
    assert "\x1b[32malive\x1b[0m" in shown
    assert node in shown


def test_a_narrow_terminal_wraps_lines_rather_than_lose_addresses(node: str) -> None:
    shown = on_a_terminal(node, columns=40)
    assert "\x1b[32malive\x1b[0m" in shown
    assert node in shown
    assert "100.0%" in shown


def test_status_as_json(command: Dyno, node: str) -> None:
    facts = json.loads(command("status", "--json", "--node", node).out)
    assert list(facts) == ["cluster", "partitions", "members", "hints_for", "unheard", "repairs"]
    assert facts["repairs"] == {"n1": repairs()}
    assert (facts["hints_for"], facts["unheard"]) == ({}, [])
    assert facts["partitions"] == 1024
    assert facts["members"] == [member("n1", address=node, share=1.0)]


def test_nothing_waits_in_a_cluster_without_hints(command: Dyno, node: str) -> None:
    ended = command("status", "--wait-drained", "--json", "--node", node)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["members"] == [member("n1", address=node, share=1.0)]


def test_a_terminal_sees_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = os.openpty()
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Notice() as notice:
            notice.show("2 hints wait for n1")
            notice.show("2 hints wait for n1")
            notice.show("1 hint waits for n1")
        expected = b"\r\x1b[K2 hints wait for n1\r\x1b[K1 hint waits for n1\r\x1b[K"
        shown = b""
        while len(shown) < len(expected):  # a terminal gives what it has in pieces
            shown += os.read(ours, 1000)
    os.close(ours)
    assert shown == expected


def test_a_pipe_sees_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Notice() as notice:
        notice.show("2 hints wait for n1")
    assert capsys.readouterr().err == ""


def test_status_takes_no_argument(command: Dyno) -> None:
    ended = command("status", "n1")
    assert (ended.code, ended.out) == (2, b"")
    assert (
        ended.err == "dyno status: there is no argument to give, so what is 'n1'?; see dyno status --help\n"
    )
