from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dyno import __version__
from dyno.cli.app import COMMANDS, GROUPS

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

VERSION = f"dyno {__version__}\n".encode()


def test_the_commands_of_this_step() -> None:
    assert list(COMMANDS) == [
        "node",
        "cluster",
        "put",
        "get",
        "delete",
        "keys",
        "status",
        "bucket create",
        "bucket list",
        "bench",
    ]


def test_the_version_is_told_everywhere(command: Dyno) -> None:
    assert command("--version") == (0, VERSION, "")
    for name in (*COMMANDS, *GROUPS):
        assert command(*name.split(), "--version") == (0, VERSION, "")


def test_help_names_every_command_and_every_command_has_help(command: Dyno) -> None:
    ended = command("--help")
    assert ended.code == 0
    for name in (*COMMANDS, *GROUPS):
        assert name.split()[0] in ended.out.decode()
        assert f"dyno {name}" in command(*name.split(), "--help").out.decode()


def test_help_gives_no_flag_a_value(command: Dyno) -> None:
    for words in ((), ("put",), ("status",)):
        assert "bool" not in command(*words, "--help").out.decode().lower()


def test_a_group_alone_shows_its_commands(command: Dyno) -> None:
    ended = command("bucket")
    assert (ended.code, ended.err) == (0, "")
    assert "create" in ended.out.decode()
    assert "list" in ended.out.decode()


def test_dyno_alone_shows_the_way(command: Dyno) -> None:
    ended = command()
    assert (ended.code, ended.err) == (0, "")
    assert "dyno cluster" in ended.out.decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("frob",), "dyno: no such command 'frob'; see dyno --help\n"),
        (("bucket", "frob"), "dyno bucket: no such command 'frob'; see dyno bucket --help\n"),
        (("--frob",), "dyno: no such option: --frob; see dyno --help\n"),
        (("explain", "b", "k"), "dyno: no such command 'explain'; see dyno --help\n"),
        (
            ("status", "--wait-drained"),
            "dyno status: there is no option --wait-drained (put -- before an argument that begins with "
            "dashes); see dyno status --help\n",
        ),
    ],
)
def test_what_does_not_exist_is_one_line(command: Dyno, words: tuple[str, ...], said: str) -> None:
    assert command(*words) == (2, b"", said)


def test_an_option_that_resembles_none_reminds_of_none(command: Dyno) -> None:
    assert "did you mean" not in command("get", "b", "k", "--overwrite").err
    assert "did you mean --json?" in command("get", "b", "k", "--jsn").err


def test_a_short_command_loads_nothing_of_the_server() -> None:
    code = (
        "import sys; from dyno.cli.app import run; run(['get', 'b', 'k', '--node', '127.0.0.1:1']);"
        "print(*sorted(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert "trio" in loaded
    assert sorted(loaded & {"lmdb", "rich", "pydantic", "asyncio", "tomllib", "dyno.cli.node"}) == []
    assert not any(name.startswith(("dyno.server", "dyno.storage", "dyno.protocol")) for name in loaded)


@pytest.mark.parametrize(("typed", "word"), [("dyno sta", "status"), ("dyno bucket cr", "create")])
def test_a_word_is_completed_in_the_shell(typed: str, word: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dyno"],
        env={
            "_DYNO_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(typed.count(" ")),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.split() == [word]
