from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dyno.cli import tables
from dyno.cli.repair import COLUMNS, Bar, remarks, rows, unfinished

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

NONE = {"keys": 0, "sent": 0, "received": 0, "healed": 0, "merged": 0, "aside": 0}


def facts(**changed: Any) -> dict[str, Any]:
    nodes = [
        {"name": "n1", "state": "ready", **NONE, "keys": 1200, "sent": 3},
        {"name": "n2", "state": "not heard", **NONE, "aside": 4},
    ]
    told: dict[str, Any] = {"done": True, "pairs": 1, "compared": 1, **NONE, "keys": 1200, "sent": 3}
    return told | {"nodes": nodes, "unreached": {}, "waiting": []} | changed


def test_a_pipe_gets_a_line_for_each_node_and_one_for_all() -> None:
    assert tables.plain(COLUMNS, rows(facts()), below=remarks(facts(merged=2))) == [
        "node  keys compared  sent  received  healed  state",
        "n1             1200     3         0       0  ready",
        "n2                0     0         0       0  not heard",
        "all            1200     3         0       0",
        "records merged back that were set aside: 2",
        "records that are set aside: n2: 4",
    ]


def test_who_is_missing_is_said_in_one_sentence() -> None:
    said = unfinished(facts(unreached={"n2": "it does not answer", "n3": "it cannot be reached"}))
    assert "(n2: it does not answer; n3: it cannot be reached)" in said
    assert "run dyno repair again" in said


def test_repair_of_a_real_node(command: Dyno, node: str) -> None:
    ended = command("repair", "--node", node)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split() for line in ended.lines[1:]] == [
        ["n1", "0", "0", "0", "0", "ready"],
        ["all", "0", "0", "0", "0"],
    ]
    ended = command("repair", "fruit", "--quarantine", "--json", "--node", node)
    told = json.loads(ended.out)
    assert (ended.code, told["done"], told["pairs"], told["unreached"]) == (0, True, 0, {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("repair", ""), "dyno: a bucket's name has 1 to 64 bytes, not 0\n"),
        (("repair", "b" * 65), "dyno: a bucket's name has 1 to 64 bytes, not 65\n"),
        (("repair", "a", "b"), "dyno repair: too many arguments: 'b'"),
        (("repair", "\udcff"), "dyno: BUCKET '\\udcff' is not valid UTF-8; use the Python client\n"),
        (
            ("repair", "--quarantene"),
            "dyno repair: there is no option --quarantene (did you mean --quarantine?)",
        ),
    ],
)
def test_wrong_words(command: Dyno, node: str, words: tuple[str, ...], said: str) -> None:
    ended = command(*words, "--node", node)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1


def test_a_node_that_is_missing_is_an_exit_code_and_a_line(
    command: Dyno, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = facts(done=False, unreached={"n2": "it does not answer"})

    async def repair(*_: object, **__: object) -> dict[str, Any]:
        return told

    monkeypatch.setattr("dyno.client.client.Client.repair", repair)
    for words in ((), ("--json",)):
        ended = command("repair", *words, "--node", node)
        assert ended.code == 4
        assert ended.out
        assert ended.err.startswith("dyno: not all copies could be compared (n2: it does not answer)")
        assert ended.err.count("\n") == 1


def test_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Bar() as bar:
            bar.show(facts(pairs=3, compared=1, done=False))
        written = b""
        while not written.endswith(b"\x1b[2K"):  # the line is gone; a terminal gives what it has in pieces
            written += os.read(ours, 10_000)
    os.close(ours)
    shown = written.decode()
    assert "1 of 3 pairs compared, 3 records sent, 0 received, not heard" not in shown
    assert "1 of 3 pairs compared, 3 records sent, 0 received" in shown


def test_a_pipe_sees_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        bar.show(facts())
    assert capsys.readouterr().err == ""


def test_a_reader_that_is_gone_is_no_error(node: str) -> None:
    command = f"{sys.executable} -m dyno repair --node {node} | true"
    ended = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
