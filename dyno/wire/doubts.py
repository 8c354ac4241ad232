"""Who suspects whom: a doubt names one incarnation of one process start, and the members that got no answer.

A suspicion that several members came to independently is worth more than one (Lifeguard, Dadgar, Phillips,
Currey 2018, §IV-B), so doubts travel beside the member records: packed, one flat CBOR array of 4 fields
each, b"" for none. Doubts about one incarnation merge by uniting their accusers, so neither loss, repetition
nor order of gossip can make two accusers of one.

`unpack_doubts` refuses, with `ProtocolError`, what no node could have said: strange names, an id of another
length, more than ACCUSERS_MAX accusers or one of them twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cbor2 import dumps

from dyno.config import NODE_NAME_BYTES_MAX
from dyno.wire.flat import FlatDecoder, ProtocolError
from dyno.wire.members import valid_name

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCUSERS_MAX: Final = 8
DOUBTS_MAX: Final = 100  # in one datagram, of which they take at least 20 bytes each


class Doubt(NamedTuple):
    """name, start, incarnation: who is suspected. accusers: comma-joined names; "" where somebody's suspicion
    was only heard of."""

    name: str
    start: bytes
    incarnation: int
    accusers: str

    def by(self) -> list[str]:
        return self.accusers.split(",") if self.accusers else []


def pack_doubts(doubts: Iterable[Doubt]) -> bytes:
    """The doubts in their order; b"" for none."""
    fields: list[object] = []
    for doubt in doubts:
        fields.extend(doubt)
    return dumps(fields) if fields else b""


def unpack_doubts(data: bytes) -> list[Doubt]:
    """The doubts in their order. ProtocolError when there are over DOUBTS_MAX or one is malformed."""
    if not data:
        return []
    fields = FlatDecoder().decode(data, fields_max=_FIELDS * DOUBTS_MAX)
    if len(fields) % _FIELDS:
        raise ProtocolError("a doubt is cut short")
    return [_doubt(fields[at : at + _FIELDS]) for at in range(0, len(fields), _FIELDS)]


def doubt_size(doubt: Doubt) -> int:
    """How many bytes a doubt adds to packed ones at most."""
    return _FIXED_BYTES + len(doubt.name) + len(doubt.accusers)


_FIELDS = len(Doubt._fields)
_TYPES = (str, bytes, int, str)
_START_BYTES = 8
_FIXED_BYTES = 3 + 9 + 9 + 3
_ACCUSER = rf"[A-Za-z0-9._-]{{1,{NODE_NAME_BYTES_MAX}}}"
_ACCUSERS = re.compile(rf"({_ACCUSER}(,{_ACCUSER}){{0,{ACCUSERS_MAX - 1}}})?")


def _doubt(fields: list[object]) -> Doubt:
    if tuple(map(type, fields)) != _TYPES:
        raise ProtocolError("a doubt with fields of other types")
    doubt = Doubt(*fields)  # type: ignore[arg-type]
    if not valid_name(doubt.name):
        raise ProtocolError(f"a doubt with the name {doubt.name!r:.80}")
    if len(doubt.start) != _START_BYTES or not 0 <= doubt.incarnation < 1 << 63:
        raise ProtocolError("a doubt with a start or an incarnation that nobody has")
    if _ACCUSERS.fullmatch(doubt.accusers) is None:
        raise ProtocolError(f"a doubt by {doubt.accusers!r:.80}")
    accusers = doubt.by()
    if len(set(accusers)) < len(accusers):
        raise ProtocolError("a doubt by one twice")
    return doubt
