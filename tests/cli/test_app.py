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
        "explain",
        "repair",
        "bucket create",
        "bucket list",
        "bench",
        "simulate",
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
        (("leave", "n1"), "dyno: no such command 'leave'; see dyno --help\n"),
        (
            ("status", "--wait-draind"),
            "dyno status: there is no option --wait-draind (did you mean --wait-drained?); see dyno status "
            "--help\n",
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


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("dyno sta", "status"),
        ("dyno b", "bench bucket"),
        ("dyno bucket ", "create list"),
        ("dyno bucket cr", "create"),
        ("dyno get b k --j", "--json"),
        ("dyno get b k -r ", "all one quorum"),
        ("dyno put b k v -w q", "quorum"),
        ("dyno bucket create b -w a", "all"),
        ("dyno bucket create b --kind ", "siblings"),
        ("dyno bench --workload ", "a b c d f"),
        ("dyno node --log-level ", "debug error info warning"),
    ],
)
def test_a_word_is_completed_in_the_shell(typed: str, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dyno"],
        env={
            "_DYNO_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(typed.count(" ")),  # a word that is still empty, too
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(ended.stdout.split()) == words.split()


@pytest.mark.parametrize(("shell", "line"), [("zsh", "all"), ("fish", "all\tevery replica")])
def test_shells_that_show_meanings_get_them(shell: str, line: str) -> None:
    variables = {"_TYPER_COMPLETE_ARGS": "dyno get b k -r a", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    ended = subprocess.run(
        [sys.executable, "-m", "dyno"],
        env={"_DYNO_COMPLETE": f"complete_{shell}", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert line in ended.stdout
    assert "every replica" in ended.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_dyno(shell: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dyno"],
        env={"_DYNO_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"_DYNO_COMPLETE=complete_{shell}" in ended.stdout


def test_what_was_meant_is_asked_in_one_voice(command: Dyno) -> None:
    assert command("stats").err == "dyno: no such command 'stats' (did you mean 'status'?); see dyno --help\n"
    assert (
        command("--versio").err
        == "dyno: no such option: --versio (did you mean --version?); see dyno --help\n"
    )


def test_the_usage_line_names_arguments_plainly(command: Dyno) -> None:
    assert "dyno put [OPTIONS] BUCKET KEY VALUE" in command("put", "--help").out.decode()
    assert "dyno status [OPTIONS]\n" in "".join(
        f"{line.rstrip()}\n" for line in command("status", "--help").lines
    )


def test_help_is_given_whatever_else_is_wrong(command: Dyno) -> None:
    assert command("get", "b", "k", "more", "--help").code == 0
