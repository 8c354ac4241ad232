"""put, get and delete against one real node."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

import dyno

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

_keys = itertools.count()


@pytest.fixture
def key() -> str:
    return f"key{next(_keys)}"


@pytest.fixture
def at(command: Dyno, node: str) -> Dyno:
    """Command lines that talk to the node."""
    return lambda *words: command(words[0], "--node", node, *words[1:])


def store(node: str, key: str, value: Any) -> None:
    async def main() -> None:
        async with dyno.connect(node) as client:
            await client.bucket("b").put(key, value)

    trio.run(main)


def context_of(lines: list[str]) -> str:
    return lines[-1].removeprefix("context: ")


def test_put_is_silent_and_get_prints_the_text(at: Dyno, key: str) -> None:
    assert at("put", "b", key, "é") == (0, b"", "")
    assert at("get", "b", key) == (0, "é\n".encode(), "")


def test_a_value_may_begin_with_a_dash(at: Dyno, key: str) -> None:
    assert at("put", "b", key, "-5").code == 0
    assert at("put", "b", f"-{key}", "--", "--json").code == 0
    assert at("get", "b", key).out == b"-5\n"
    assert at("get", "b", f"-{key}").out == b"--json\n"


def test_the_environment_names_the_node(
    command: Dyno, node: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNO_NODES", f"127.0.0.1:1,{node}")
    assert command("put", "b", key, "v").code == 0
    assert command("get", "b", key).out == b"v\n"


def test_a_missing_key_is_said_on_stderr(at: Dyno, key: str) -> None:
    assert at("get", "b", key) == (1, b"", f"dyno: there is no value at b/{key}\n")
    ended = at("get", "b", key, "--json")
    assert (ended.code, ended.err) == (1, f"dyno: there is no value at b/{key}\n")
    found = json.loads(ended.out)
    assert (found["exists"], found["siblings"], found["context"]) == (False, [], "")


def test_siblings_are_printed_with_the_context_that_resolves_them(at: Dyno, key: str) -> None:
    at("put", "b", key, "red")
    at("put", "b", key, "two\nlines")
    ended = at("get", "b", key)
    assert (ended.code, ended.err) == (3, "")
    assert sorted(ended.lines[:2]) == ['"two\\nlines"', "red"]
    assert ended.lines[2].startswith("context: ")

    ended = at("get", "b", key, "--json")
    assert ended.code == 3
    assert sorted(json.loads(ended.out)["siblings"]) == ["red", "two\nlines"]

    assert at("put", "b", key, "both", "--context", context_of(at("get", "b", key).lines)) == (0, b"", "")
    assert at("get", "b", key) == (0, b"both\n", "")


def test_overwrite_replaces_what_it_reads(at: Dyno, key: str) -> None:
    for value in ("one", "two"):
        at("put", "b", key, value)
    assert at("put", "--overwrite", "b", key, "three").code == 0
    assert at("get", "b", key).out == b"three\n"
    assert at("put", "--overwrite", "b", f"{key}-new", "first").code == 0
    assert at("get", "b", f"{key}-new").out == b"first\n"


def test_delete_removes_what_is_there_or_what_its_context_saw(at: Dyno, key: str) -> None:
    seen = json.loads(at("put", "b", key, "old", "--json").out)["context"]
    at("put", "b", key, "new")
    assert at("delete", "b", key, "--context", seen) == (0, b"", "")
    assert at("get", "b", key).out == b"new\n"
    assert at("delete", "b", key) == (0, b"", "")
    assert at("get", "b", key).code == 1
    assert at("delete", "b", key) == (0, b"", "")


def test_json_tells_context_and_replicas(at: Dyno, key: str) -> None:
    for ended in (at("put", "b", key, "v", "--json"), at("delete", "b", key, "--json")):
        told = json.loads(ended.out)
        assert set(told) == {"context", "replicas"}
        assert told["replicas"] == {"answered": ["n1"], "fallbacks": []}
        assert told["context"]


@pytest.mark.parametrize(
    ("value", "printed", "shape"),
    [
        (b"\x00\xff\n", b"\x00\xff\n", {"base64": "AP8K"}),
        ({"milk": 1}, b'{"milk": 1}\n', {"milk": 1}),
        (None, b"null\n", None),
    ],
)
def test_values_of_other_programs(
    at: Dyno, node: str, key: str, value: Any, printed: bytes, shape: Any
) -> None:
    store(node, key, value)
    assert at("get", "b", key).out == printed
    assert json.loads(at("get", "b", key, "--json").out)["siblings"] == [shape]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("put", "b", "k"), "dyno put: missing argument 'VALUE'; see dyno put --help"),
        (("put", "b", "k", "v", "more"), "too many arguments: 'more'"),
        (("get", "b", "k", "-r", "x"), "-r: 'x' is not a quorum"),
        (("get", "b", "k", "-r", "0"), "r=0 is not possible"),
        (("get", "b", "k", "-r", "5"), "r=5 is more than the bucket's n=3"),
        (("put", "b", "k", "v", "-w4"), "w=4 is more than the bucket's n=3"),
        (("put", "b", "", "v"), "a key has 1 to 1024 bytes"),
        (("put", "b", "k" * 1025, "v"), "a key has 1 to 1024 bytes"),
        (("put", "", "k", "v"), "a bucket's name has 1 to 64 bytes"),
        (("put", "b", "k", "\udcff"), "VALUE '\\udcff' is not valid UTF-8"),
        (("get", "b", "\udcff"), "KEY '\\udcff' is not valid UTF-8"),
        (("delete", "\udcff", "k"), "BUCKET '\\udcff' is not valid UTF-8"),
        (("put", "b", "k", "v" * (1 << 20) + "v"), "1048576"),
        (("put", "b", "k", "v", "--context", "A"), "--context: this is not a whole token"),
        (("put", "b", "k", "v", "--context", "AQID"), "context token"),
        (("put", "b", "k", "v", "--context", "", "--overwrite"), "--overwrite reads a context of its own"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(at: Dyno, words: tuple[str, ...], complaint: str) -> None:
    ended = at(*words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1), ended.err
    assert ended.err.startswith("dyno")
    assert complaint in ended.err


def test_the_context_of_another_key_is_refused(at: Dyno, key: str) -> None:
    seen = json.loads(at("put", "b", key, "v", "--json").out)["context"]
    ended = at("put", "b", f"{key}x", "v", "--context", seen)
    assert ended.code == 2
    assert "belongs to another key" in ended.err


def test_more_replicas_than_nodes_is_exit_4(at: Dyno, key: str) -> None:
    ended = at("put", "b", key, "v", "-w", "2")
    assert (ended.code, ended.out, ended.err.count("\n")) == (4, b"", 1)
    assert at("get", "b", key).code == 1


def test_nobody_there_is_exit_5(command: Dyno) -> None:
    ended = command("get", "b", "k", "--node", "127.0.0.1:1")
    assert (ended.code, ended.out, ended.err.count("\n")) == (5, b"", 1)
    assert "127.0.0.1:1" in ended.err


def test_a_number_of_any_length_is_printed(at: Dyno, node: str, key: str) -> None:
    store(node, key, 10**5000)
    assert at("get", "b", key).out == b"1" + b"0" * 5000 + b"\n"


def put_from(node: str, key: str, redirection: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    line = f"{shlex.quote(sys.executable)} -m dyno put b {key} - --node {node} {redirection}"
    return subprocess.run(line, shell=True, input=data, capture_output=True, check=False)


@pytest.mark.parametrize("data", [b"", b"\n", b"\x00\xff\r\n" * 50_000])
def test_a_dash_stores_the_bytes_of_standard_input(at: Dyno, node: str, key: str, data: bytes) -> None:
    assert put_from(node, key, "", data).returncode == 0
    assert at("get", "b", key).out == data


@pytest.mark.parametrize(
    ("redirection", "complaint"),
    [("<&-", b"standard input is closed"), ("</dev/zero", b"more than 8 MiB")],
)
def test_standard_input_that_cannot_be_stored(
    node: str, key: str, redirection: str, complaint: bytes
) -> None:
    ended = put_from(node, key, redirection)
    assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1)
    assert complaint in ended.stderr


def test_a_reader_that_wants_no_more_is_no_error(node: str, key: str) -> None:
    store(node, key, b"x" * 1_000_000)
    line = f"{shlex.quote(sys.executable)} -m dyno get b {key} --node {node} | head -c1"
    ended = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=False)
    assert (ended.stdout, ended.stderr) == (b"x", b"")
