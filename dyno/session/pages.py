"""A page of keys as a session takes it from a node's answer.

In: a Listed message and the request that it answers. Out: the keys as their user sees them, and the cursor.
A node whose cursor stands still would be asked for ever, so that is refused, with ProtocolError, as is all
else that no node says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dyno.wire.flat import ProtocolError
from dyno.wire.pages import HASH_BYTES, unpack_keys

if TYPE_CHECKING:
    from dyno.wire.messages import Listed, ListKeys


class Page(NamedTuple):
    """keys: a str where a key is valid UTF-8, else bytes. cursor: where to go on; b"" at the end."""

    keys: list[str | bytes]
    cursor: bytes


def page_of(listed: Listed, request: ListKeys) -> Page:
    cursor = listed.cursor
    if cursor and (len(cursor) != HASH_BYTES or cursor <= request.after):
        raise ProtocolError("a page of keys that ends before it begins")
    keys = unpack_keys(listed.keys)
    if len(keys) > request.limit:
        raise ProtocolError(f"{len(keys)} keys in a page of {request.limit}")
    return Page([key_of(key) for key in keys], cursor)


def key_of(key: bytes) -> str | bytes:
    """As users are told it."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key
