"""Rows of byte strings within one field of a message: keys of a batch or a page, records of an answer.

A message has a fixed number of flat fields, so what has a length of its own travels as one `bytes` field: a
flat CBOR array whose items are byte strings, or null where there is nothing to say. In: such lists. Out: the
field, and back. What a stranger sent is bounded by the caller's `items_max` and ends in `ProtocolError` if it
is anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbor2 import dumps

from dyno.wire.flat import FlatDecoder, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

_KINDS = frozenset((bytes, type(None)))


def pack_row(items: Sequence[bytes | None]) -> bytes:
    """One item at least."""
    assert items
    return dumps(items)


def unpack_row(packed: bytes, *, items_max: int) -> list[bytes | None]:
    """1..items_max items. Raises ProtocolError."""
    items = FlatDecoder().decode(packed, fields_max=items_max)
    if not _KINDS.issuperset(map(type, items)):
        raise ProtocolError("a row holds byte strings and nulls alone")
    return items  # type: ignore[return-value]


def unpack_keys(packed: bytes, *, items_max: int) -> list[bytes]:
    """A row without nulls."""
    items = unpack_row(packed, items_max=items_max)
    if None in items:
        raise ProtocolError("a row of keys holds no nulls")
    return items  # type: ignore[return-value]
