"""How many hints which node keeps for which, packed into one bytes field of a message.

One row for each holder and target: the holder's name, the target's, and how many hints. A holder that keeps
none has one row, without a target, so that it can be told from a holder of which nothing is known. Rows come
in the order of their names, each pair once: equal facts have equal bytes. They travel as one flat CBOR array
of three fields each, b"" for no rows.

Out of a stranger's bytes comes exactly that, or `ProtocolError`. ROWS_MAX bounds what they grow to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cbor2 import dumps

from dyno.wire.flat import FlatDecoder, ProtocolError
from dyno.wire.members import valid_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROWS_MAX: Final = 20_000  # of one message

_FIELDS = 3
_TYPES = (str, str, int)


class Held(NamedTuple):
    """target: "" with a number of 0, for a holder that keeps none."""

    holder: str
    target: str
    number: int


def rows_of(holder: str, held: Mapping[str, int]) -> list[Held]:
    """What one node keeps, as rows. held: how many hints for which target; zeros say nothing."""
    rows = [Held(holder, target, count) for target, count in sorted(held.items()) if count]
    return rows or [Held(holder, "", 0)]


def pack_hints(rows: Iterable[Held]) -> bytes:
    """In the order of their names."""
    fields: list[object] = []
    for row in rows:
        fields.extend(row)
    return dumps(fields) if fields else b""


def unpack_hints(packed: bytes, *, rows_max: int = ROWS_MAX) -> list[Held]:
    """What `pack_hints` packed. Raises ProtocolError for anything else."""
    if not packed:
        return []
    fields = FlatDecoder().decode(packed, fields_max=_FIELDS * rows_max)
    if len(fields) % _FIELDS:
        raise ProtocolError("a row of hints is cut short")
    rows: list[Held] = []
    for at in range(0, len(fields), _FIELDS):
        row = _row(fields[at : at + _FIELDS])
        if rows and not _follows(row, rows[-1]):
            raise ProtocolError("rows of hints are not in the order of their names")
        rows.append(row)
    return rows


def _row(fields: list[object]) -> Held:
    if tuple(map(type, fields)) != _TYPES:
        raise ProtocolError("a row of hints with fields of other types")
    row = Held(*fields)  # type: ignore[arg-type]
    if not valid_name(row.holder) or not (valid_name(row.target) or row.target == ""):
        raise ProtocolError(f"hints of {row.holder!r:.80} for {row.target!r:.80}")
    if not 0 <= row.number < 1 << 63 or bool(row.number) != bool(row.target):
        raise ProtocolError(f"{row.number} hints for {row.target!r:.80}")
    return row


def _follows(row: Held, last: Held) -> bool:
    """A holder that keeps none has no other row."""
    if row.holder == last.holder and not last.target:
        return False
    return row[:2] > last[:2]
