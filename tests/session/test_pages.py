"""What a session takes from a page of keys, and what it refuses."""

from __future__ import annotations

import pytest

from dyno.session.pages import Page, page_of
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import DEFAULT, Listed, ListKeys
from dyno.wire.pages import pack_keys

AFTER, FURTHER = b"m" * 16, b"n" * 16
REQUEST = ListKeys(1, "carts", 3, AFTER, 4, DEFAULT, DEFAULT, 5000, False)


def test_keys_are_text_where_they_are_utf_8():
    keys = [b"plain", "ü".encode(), b"\xff", b"\xed\xa0\x80"]
    page = page_of(Listed(1, pack_keys(keys), FURTHER), REQUEST)
    assert page == Page(["plain", "ü", b"\xff", b"\xed\xa0\x80"], FURTHER)


def test_a_page_may_be_empty_and_the_last():
    assert page_of(Listed(1, b"", b""), REQUEST) == Page([], b"")
    assert page_of(Listed(1, b"", FURTHER), REQUEST) == Page([], FURTHER)


@pytest.mark.parametrize(
    "listed",
    [
        Listed(1, b"", AFTER),
        Listed(1, b"", b"a" * 16),
        Listed(1, b"", b"n" * 15),
        Listed(1, b"nonsense", b""),
        Listed(1, pack_keys([b"k"] * 5), b""),
    ],
)
def test_a_page_that_no_node_gives_is_refused(listed):
    with pytest.raises(ProtocolError):
        page_of(listed, REQUEST)
