"""`dyno bench` against one real node, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer

from dyno.cli.bench.command import conclude
from dyno.cli.bench.loop import NotFound, Tally
from dyno.cli.bench.report import Plan
from dyno.errors import ConnectFailed, DynoError, Overloaded, QuorumNotMet
from dyno.workload.mixes import MIXES

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

SHORT = ("--seconds", "0.2", "--records", "50", "--value-bytes", "10", "--clients", "4")
PLAN = Plan(MIXES["c"], clients=1, seconds=1.0, records=1, value_bytes=1)


def test_a_pipe_gets_the_report_and_no_progress(command: Dyno, node: str) -> None:
    ended = command("bench", "--node", node, *SHORT)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0] == "workload a: half reads, half updates"
    assert ended.lines[1].startswith("4 clients, 50 records of 10 bytes, 0.")
    assert [line.split()[0] for line in ended.lines[2:6]] == ["operation", "read", "update", "all"]
    assert ended.lines[6] == "errors: none"


def test_json_is_one_object(command: Dyno, node: str) -> None:
    ended = command("bench", "--workload", "c", "--json", "--node", node, *SHORT)
    assert (ended.code, ended.err, len(ended.lines)) == (0, "", 1)
    facts = json.loads(ended.out)
    assert list(facts) == ["read", "run"]
    assert facts["read"]["count"] == facts["run"]["operations"] > 0
    assert facts["run"]["value_bytes"] == 10


def test_a_terminal_gets_colours_and_progress_on_stderr(node: str) -> None:
    ours, its = os.openpty()
    seen, shown = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    words = [sys.executable, "-m", "dyno", "bench", "--node", node, *SHORT]
    subprocess.run(words, stdout=its, stderr=shown, env=environment, check=True)
    for descriptor in (its, shown):
        os.close(descriptor)
    out, err = os.read(ours, 10_000).decode(), os.read(seen, 10_000).decode()
    for descriptor in (ours, seen):
        os.close(descriptor)
    assert "\x1b[1moperation" in out
    assert "client CPU per operation" in out
    assert "loading" in err
    assert "workload a" in err
    assert "of 50 records" not in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--workload", "e"), "--workload: there is no workload 'e'; there are a, b, c, d, f"),
        (("--clients", "0"), "--clients is a number from 1 to 10000, not '0'"),
        (("--clients", "ten"), "--clients is a number from 1 to 10000, not 'ten'"),
        (("--seconds", "-5"), "--seconds is a number above 0 and at most 86400, not '-5'"),
        (("--seconds", "0.0"), "--seconds is a number above 0 and at most 86400, not '0.0'"),
        (("--seconds", "86400.1"), "--seconds is a number above 0 and at most 86400, not '86400.1'"),
        (("--seconds", "nan"), "--seconds is a number above 0 and at most 86400, not 'nan'"),
        (("--value-bytes", "1048577"), "--value-bytes is a number from 1 to 1048576, not '1048577'"),
        (("--records", "0"), "--records is a number from 1 to 10000000, not '0'"),
        (("--node", "nowhere"), "--node: "),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(command: Dyno, words: tuple[str, ...], complaint: str) -> None:
    ended = command("bench", *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1)
    assert ended.err.startswith(f"dyno: {complaint}")


def test_nobody_there_is_exit_5(command: Dyno) -> None:
    ended = command("bench", "--node", "127.0.0.1:1")
    assert (ended.code, ended.out, ended.err.count("\n")) == (5, b"", 1)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            QuorumNotMet("one of two", needed=2, answered=1, nodes=(), indeterminate=False),
            4,
            "dyno: all 2 operations failed, the last one so: one of two\n",
        ),
        (ConnectFailed("nobody"), 5, "dyno: all 2 operations failed, the last one so: nobody; start a node"),
        (Overloaded("much", retry_after=1), 6, "the last one so: much; try again in 1 s\n"),
        (NotFound("nothing"), 2, "the last one so: nothing\n"),
    ],
)
def test_where_every_operation_failed_the_last_error_decides(
    capsys: pytest.CaptureFixture[str], error: DynoError, code: int, said: str
) -> None:
    tally = Tally(("read",))
    tally.failed(error)
    tally.failed(error)
    with pytest.raises(typer.Exit) as raised:
        conclude(PLAN, tally, as_json=True)
    assert raised.value.exit_code == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["run"]["errors"] == {type(error).__name__: 2}
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_where_some_succeeded_errors_are_only_counted(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(("read",))
    tally.failed(ConnectFailed("nobody"))
    tally.latencies["read"].record(1)
    conclude(PLAN, tally, as_json=False)
    captured = capsys.readouterr()
    assert "errors: 1 ConnectFailed" in captured.out
    assert captured.err == ""


def test_where_nobody_looks_rich_is_not_loaded(node: str) -> None:
    words = ["bench", "--node", node, *SHORT]
    code = f"import sys; from dyno.cli.app import run; run({words!r}); print(*sorted(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert "dyno.cli.bench.progress" in loaded
    assert sorted(loaded & {"rich", "rich.console", "lmdb", "asyncio"}) == []
    assert not any(name.startswith(("dyno.server", "dyno.storage", "dyno.protocol")) for name in loaded)
