"""`dyno keys` against one real node."""

from __future__ import annotations

import base64
import itertools
import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

import dyno

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

_buckets = itertools.count()


@pytest.fixture
def bucket() -> str:
    return f"listed {next(_buckets)}"


def fill(node: str, bucket: str, *keys: str | bytes) -> None:
    async def main() -> None:
        async with dyno.connect(node) as client:
            for key in keys:
                await client.bucket(bucket).put(key, 1)

    trio.run(main)


def test_keys_are_printed_one_per_line(command: Dyno, node: str, bucket: str) -> None:
    keys = [f"key {number}" for number in range(300)] + ["ü"]
    fill(node, bucket, *keys)
    fill(node, f"another {bucket}", "elsewhere")
    assert command("delete", bucket, "key 7", "--node", node).code == 0
    ended = command("keys", bucket, "--node", node)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.lines) == sorted(key for key in keys if key != "key 7")


def test_an_empty_bucket_prints_nothing(command: Dyno, node: str, bucket: str) -> None:
    assert command("keys", bucket, "--node", node) == (0, b"", "")
    assert command("keys", bucket, "--node", node, "--json") == (0, b"", "")


def test_keys_that_are_no_text_are_their_bytes_and_in_json_base64(
    command: Dyno, node: str, bucket: str
) -> None:
    odd = b"\xff\x00\n"
    fill(node, bucket, odd, "two\nlines", '"')
    printed = command("keys", bucket, "--node", node).out
    assert len(printed) == sum(len(key) + 1 for key in (odd, b"two\nlines", b'"'))
    assert all(key + b"\n" in printed for key in (odd, b"two\nlines", b'"'))
    ended = command("keys", bucket, "-rone", "--node", node, "--json")
    assert ended.code == 0
    shapes = [json.loads(line) for line in ended.lines]
    assert {"base64": base64.b64encode(odd).decode()} in shapes
    assert {shape for shape in shapes if isinstance(shape, str)} == {"two\nlines", '"'}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("keys",), "dyno keys: missing argument 'BUCKET'; see dyno keys --help"),
        (("keys", "b", "more"), "too many arguments: 'more'"),
        (("keys", "b", "-r", "x"), "-r: 'x' is not a quorum"),
        (("keys", "b", "-r", "5"), "r=5 is more than the bucket's n=3"),
        (("keys", ""), "a bucket's name has 1 to 64 bytes"),
        (("keys", "\udcff"), "BUCKET '\\udcff' is not valid UTF-8"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(
    command: Dyno, node: str, words: tuple[str, ...], complaint: str
) -> None:
    ended = command(*words, "--node", node)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1), ended.err
    assert complaint in ended.err


def test_an_unreachable_node_is_exit_5(command: Dyno) -> None:
    ended = command("keys", "b", "--node", "127.0.0.1:1")
    assert (ended.code, ended.out, ended.err.count("\n")) == (5, b"", 1)


def test_a_reader_that_goes_away_is_no_error(node: str, bucket: str) -> None:
    fill(node, bucket, *[f"{number} ".ljust(1000, "k") for number in range(300)])
    keys = f"{shlex.quote(sys.executable)} -m dyno keys {shlex.quote(bucket)} --node {node}"
    line = f"{{ {keys}; echo $? >&2; }} | head -n 1"
    ended = subprocess.run(line, shell=True, capture_output=True, timeout=30, check=True)
    assert ended.stdout.count(b"\n") == 1
    assert ended.stderr == b"0\n"
