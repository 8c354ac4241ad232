from __future__ import annotations

import pytest

from dyno.cli import options
from dyno.errors import InvalidRequest


@pytest.mark.parametrize("text", ["a:1,b:2", "a:1 b:2", " a:1 ,, b:2\n"])
def test_the_environment_names_nodes_with_commas_or_spaces(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNO_NODES", text)
    assert options.addresses(None) == ("a:1", "b:2")


def test_options_beat_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_NODES", "a:1")
    assert options.addresses(("c:3", "[::1]:7101")) == ("c:3", "[::1]:7101")


@pytest.mark.parametrize("text", [None, "", " , "])
def test_without_either_there_is_a_default(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is None:
        monkeypatch.delenv("DYNO_NODES", raising=False)
    else:
        monkeypatch.setenv("DYNO_NODES", text)
    assert options.addresses(()) == ("127.0.0.1:7101",)


@pytest.mark.parametrize("text", ["1", "64", "0064", "100"])
def test_a_whole_number_is_its_digits(text: str) -> None:
    assert options.whole_number(text, "--count", 1, 100) == int(text)


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "+1", "1.0", "1_0", "ten", "²", "٣", "9" * 50])
def test_any_other_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^--count is a number from 1 to 100, not "):
        options.whole_number(text, "--count", 1, 100)


@pytest.mark.parametrize("address", ["", "host", "host:", "host:0", "host:65536", "::1:7101", "a b:1"])
def test_a_wrong_address_is_refused_by_its_source(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match=r"^--node: "):
        options.addresses([address])
    if address not in ("", "a b:1"):
        monkeypatch.setenv("DYNO_NODES", address)
        with pytest.raises(InvalidRequest, match=r"^\$DYNO_NODES: "):
            options.addresses(None)


def test_a_quorum_is_a_number_or_a_word() -> None:
    given = [None, "one", "quorum", "all", "3", "0", "-1"]
    assert [options.quorum(text, "-r") for text in given] == [None, "one", "quorum", "all", 3, 0, -1]


@pytest.mark.parametrize("text", ["", "two", "1.0", "1_0", "٣", " 1", "+1", "9" * 5000])
def test_anything_else_is_no_quorum(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"-w: .* is not a quorum"):
        options.quorum(text, "-w")


def test_a_token_is_read_back() -> None:
    assert options.token(None) is None
    assert options.token("") == b""
    assert options.token("AQI") == b"\x01\x02"


@pytest.mark.parametrize("text", ["!", "AQI=", "A", "AQ J", "é", "\udcff"])
def test_a_damaged_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--context: this is not a whole token"):
        options.token(text)


def test_what_is_no_text_is_refused() -> None:
    assert options.utf8("é", "KEY") == "é"
    with pytest.raises(InvalidRequest, match=r"VALUE '\\udcff' is not valid UTF-8; .* stdin"):
        options.utf8("\udcff", "VALUE")
    with pytest.raises(InvalidRequest, match=r"KEY .* Python client"):
        options.utf8("\udcff", "KEY")
