from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dyno.cli import tables
from dyno.cli.explain import COLUMNS, remarks, rows, summary

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

START = "9f3c2a1b77aa0011"


def an_actor(epoch: int = 0) -> str:
    return f"{START}{epoch:016x}"


def a_sibling(value: Any = "milk", counter: int = 1, **facts: Any) -> dict[str, Any]:
    sibling = {"actor": an_actor(), "counter": counter, "request": "ab" * 16, "bytes": 5, "value": value}
    return sibling | facts


def a_view(*siblings: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {
        "state": "held",
        "digest": "0123456789abcdef",
        "bytes": 100,
        "tombstone": not siblings,
        "context": {"vector": {an_actor(): 2}, "dots": []},
        "values": len(siblings),
        "siblings": list(siblings),
    } | facts


ABSENT = a_view(state="absent", digest="", context=None, tombstone=False)


def a_replica(node: str, copy: Any, **facts: Any) -> dict[str, Any]:
    return {
        "node": node,
        "role": "primary",
        "reach": "heard",
        "weak": False,
        "compared_s": None,
        "copy": copy,
        "hints": [],
    } | facts


def explained(*replicas: dict[str, Any], **facts: Any) -> list[str]:
    whole = {
        "bucket": "carts",
        "key": "alice",
        "partition": 17,
        "n": 3,
        "primaries": ["n1", "n2", "n3"],
        "fallbacks": ["n4"],
        "agree": True,
        "replicas": list(replicas),
    } | facts
    return tables.plain(COLUMNS, rows(whole), above=[tables.Remark(summary(whole))], below=remarks(whole))


def test_a_pipe_gets_aligned_text() -> None:
    silent = a_replica("n3", None, reach="unreachable")
    hint = a_view(a_sibling(), **{"for": "n3"})
    assert explained(
        a_replica("n1", a_view(a_sibling(), a_sibling("bread", 2))),
        a_replica("n2", a_view(), compared_s=3.4),
        silent,
        a_replica("n4", ABSENT, role="fallback", hints=[hint]),
        agree=False,
    ) == [
        "carts/alice: partition 17, n=3, on n1, n2, n3, then n4",
        "node  as           state        digest    context     dot         request   value",
        '''n1    primary      held         01234567  9f3c2a1b:2  9f3c2a1b:1  abababab  "milk"''',
        '''                                                      9f3c2a1b:2  abababab  "bread"''',
        "n2    primary      tombstone    01234567  9f3c2a1b:2",
        "n3    primary      unreachable",
        "n4    fallback     absent",
        '''      hint for n3  held         01234567  9f3c2a1b:2  9f3c2a1b:1  abababab  "milk"''',
        "not all primaries are known to hold the same",
        "last compared with another owner: n2 3 s ago",
    ]


def test_what_is_large_is_cut() -> None:
    context = {"vector": {f"{number:016x}{1:016x}": 1 for number in range(9)}, "dots": [[an_actor(3), 7]]}
    shown = explained(
        a_replica("n1", a_view(a_sibling("x" * 100, bytes=102), context=context, values=30)),
        a_replica("n2", a_view(a_sibling(bytes=300) | {"begins": b"abc"}, context=None)),
        fallbacks=[],
    )
    assert "00000000.1:1 00000000.1:1" in shown[2]
    assert "… 4 more" in shown[2]
    assert shown[2].endswith(f'''"{"x" * 39}… (102 bytes)''')
    assert shown[3].strip() == "… 29 more"
    assert "(too large to show)" in shown[4]
    few = {"vector": {}, "dots": [[an_actor(3), 7]]}
    assert "  +9f3c2a1b.3:7  " in explained(a_replica("n1", a_view(a_sibling(), context=few)))[2]


def test_a_value_that_is_not_whole_is_shown_by_how_it_begins() -> None:
    sibling = a_sibling(bytes=300)
    del sibling["value"]
    shown = explained(a_replica("n1", a_view(sibling | {"begins": "once upon a time"})))
    assert shown[2].endswith('"once upon a time"… (300 bytes)')


def test_what_a_node_is_worth_is_said_below() -> None:
    replicas = [
        a_replica(f"n{number}", a_view(), weak=number < 3, compared_s=seconds)
        for number, seconds in enumerate((600.0, 36_000.0, 400_000.0), 1)
    ]
    assert explained(*replicas)[-3:] == [
        "all primaries hold the same",
        "not complete again yet, so not counted in reads: n1, n2",
        "last compared with another owner: n1 10 min ago, n2 10 h ago, n3 5 days ago",
    ]


def test_nothing_from_afar_can_drive_the_terminal() -> None:
    sibling = a_sibling("\x1b[2J\n")
    shown = explained(a_replica("n\x1b1", a_view(sibling)), key=b"\xff\x1b", bucket="b\x1b[2J")
    assert "\x1b" not in "".join(shown)
    assert shown[0].startswith("b\\x1b[2J/b'\\xff\\x1b': partition 17")


def test_a_key_on_a_real_node(command: Dyno, node: str) -> None:
    for value in ("milk", "bread"):
        assert command("put", "explained", "siblings", value, "--node", node).code == 0
    ended = command("explain", "explained", "siblings", "--node", node)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0].startswith("explained/siblings: partition ")
    assert ended.lines[0].endswith(", n=3, on n1")
    assert [line.rpartition("  ")[2] for line in ended.lines[2:4]] == ['"milk"', '"bread"']
    assert ended.lines[2].split()[:3] == ["n1", "primary", "held"]
    assert ended.lines[4] == "all primaries hold the same"


def test_a_key_that_was_never_written_and_one_that_was_deleted(command: Dyno, node: str) -> None:
    ended = command("explain", "explained", "never", "--node", node)
    assert (ended.code, ended.lines[2].split()) == (0, ["n1", "primary", "absent"])
    assert ended.lines[3] == "no primary holds anything: the key was never written, or all of it is reaped"
    command("put", "explained", "gone", "v", "--node", node)
    command("delete", "explained", "gone", "--node", node)
    ended = command("explain", "explained", "gone", "--node", node)
    assert (ended.code, ended.lines[2].split()[:3]) == (0, ["n1", "primary", "tombstone"])


def test_as_json(command: Dyno, node: str) -> None:
    command("put", "explained", "json", "-5", "--node", node)
    facts = json.loads(command("explain", "explained", "json", "--json", "--node", node).out)
    assert (facts["bucket"], facts["key"], facts["primaries"], facts["agree"]) == (
        "explained",
        "json",
        ["n1"],
        True,
    )
    (replica,) = facts["replicas"]
    assert replica["copy"]["siblings"][0]["value"] == "-5"


def test_wrong_input_is_one_line(command: Dyno, node: str) -> None:
    for words, code in (
        (("explain", "b"), 2),
        (("explain", "b", "k", "more"), 2),
        (("explain", "b" * 65, "k", "--node", node), 2),
        (("explain", "b", "", "--node", node), 2),
        (("explain", "b", "k", "--node", "127.0.0.1:1"), 5),
    ):
        ended = command(*words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (code, b"", 1), words
