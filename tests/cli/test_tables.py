from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys

from dyno.cli.tables import Column, Remark, plain, show

COLUMNS = (Column("name"), Column("n", right=True))


def test_a_pipe_gets_aligned_text() -> None:
    assert plain(COLUMNS, [("wide", "5"), ("a", "12")]) == ["name   n", "wide   5", "a     12"]


def test_no_rows_are_a_head_alone() -> None:
    assert plain(COLUMNS, []) == ["name  n"]


def test_remarks_stand_above_and_below() -> None:
    lines = plain(COLUMNS, [("a", "5")], above=[Remark("two of them")], below=[Remark("none", "red")])
    assert lines == ["two of them", "name  n", "a     5", "none"]


def test_a_terminal_gets_a_bold_head_colours_and_a_bold_sum() -> None:
    shown = on_a_terminal("TERM=xterm-256color", columns=80)
    assert "\x1b[1mname" in shown
    assert "\x1b[32mup" in shown
    assert re.search("\x1b\\[1mall +", shown)
    assert "\x1b[31m3 errors\x1b[0m" in shown


def test_a_terminal_without_colours_gets_none() -> None:
    shown = on_a_terminal("TERM=xterm-256color", "NO_COLOR=1", columns=80)
    assert "\x1b[3" not in shown
    assert on_a_terminal("TERM=dumb", columns=80).splitlines() == [
        "what it is",
        "name                  n",
        "up                    5",
        "a-name-that-is-long   6",
        "all                  11",
        "3 errors",
    ]


def test_a_terminal_that_is_too_narrow_wraps_lines_rather_than_lose_names() -> None:
    shown = on_a_terminal("TERM=dumb", columns=10)
    assert "a-name-that-is-long   6" in shown


SHOWN = """
from dyno.cli.tables import Column, Remark, show
columns = Column("name", colours={"up": "green"}), Column("n", right=True)
rows = [("up", "5"), ("a-name-that-is-long", "6"), ("all", "11")]
show(columns, rows, above=[Remark("what it is")], below=[Remark("3 errors", "red")], total=True)
"""


def on_a_terminal(*variables: str, columns: int) -> str:
    ours, its = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= dict(variable.split("=") for variable in (*variables, f"COLUMNS={columns}"))
    subprocess.run([sys.executable, "-c", SHOWN], stdout=its, env=environment, check=True)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends that nobody has open any more
        while part := os.read(ours, 10_000):
            shown += part
    os.close(ours)
    return shown.decode()


def test_what_is_shown_in_a_pipe_is_plain(capfdbinary) -> None:  # type: ignore[no-untyped-def]
    show(COLUMNS, [("é", "5")])
    assert capfdbinary.readouterr().out.decode() == "name  n\né     5\n"
