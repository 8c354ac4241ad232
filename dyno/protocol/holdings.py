"""Whether a node keeps anything of a (partition, n) that could come back: records, hints, what is set aside.

In: the replica, the first bytes of the slots. Out: what there is, in a word for people, or b"" for nothing.
It costs a few seeks, whatever there is: hints are looked for target by target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.protocol.rows import ASIDE, HINTS, rows_of

if TYPE_CHECKING:
    from dyno.protocol.replica import Replica


def what_is_held(replica: Replica, head: bytes, *, as_owner: bool) -> str:
    """What speaks against a reaping: "" for nothing. An owner may have records, and what it set aside it has
    compared with them."""
    if holds_hints(replica, head):
        return "it keeps hints there"
    if as_owner:
        return ""
    if replica.holds(head):
        return "it has records there that it does not own"
    if replica.holds(ASIDE + head):
        return "it has records aside there"
    return ""


def holds_hints(replica: Replica, head: bytes) -> bool:
    """Hints of a (partition, n), for whomever: HINTS, target's name, zero byte, slot."""
    start, end = rows_of(HINTS)
    while rows := replica.rows(start, end, limit=1)[0]:
        target = rows[0][0][len(HINTS) :].partition(b"\0")[0]
        if replica.holds(HINTS + target + b"\0" + head):
            return True
        start = HINTS + target + b"\1"
    return any(key[len(HINTS) :].partition(b"\0")[2].startswith(head) for key in replica.waiting(HINTS))
