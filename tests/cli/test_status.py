from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from dyno.cli import tables
from dyno.cli.status import COLUMNS, cells, summary

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


def plain(facts: dict[str, Any]) -> list[str]:
    rows = [cells(member) for member in facts["members"]]
    return tables.plain(COLUMNS, rows, above=[tables.Remark(summary(facts))])


def test_a_pipe_gets_aligned_text() -> None:
    members = [member("n1", hints=12), member("node-two", zone="b", weight=2.5, liveness="dead", share=1 / 3)]
    facts = {"cluster": "abc", "partitions": 64, "members": members}
    assert plain(facts) == [
        "cluster abc: 64 partitions, 1 of 2 members alive",
        "name      address         zone  weight  state   liveness  incarnation  share  hints",
        "n1        127.0.0.1:7101  -          1  normal  alive               0  50.0%     12",
        "node-two  127.0.0.1:7101  b        2.5  normal  dead                0  33.3%      0",
    ]


def test_a_name_from_afar_cannot_drive_the_terminal() -> None:
    facts = {"cluster": "abc", "partitions": 64, "members": [member("n1", zone="\x1b[2J\n")]}
    assert "\\x1b[2J" in plain(facts)[2]


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
    assert list(facts) == ["cluster", "partitions", "members"]
    assert facts["partitions"] == 1024
    assert facts["members"] == [member("n1", address=node, share=1.0)]


def test_status_takes_no_argument(command: Dyno) -> None:
    ended = command("status", "n1")
    assert (ended.code, ended.out) == (2, b"")
    assert (
        ended.err == "dyno status: there is no argument to give, so what is 'n1'?; see dyno status --help\n"
    )
