"""Mint where no primary can be reached: what a node does for a key of which it owns no copy.

Only a primary mints, as a rule, for it knows the key's record. A node that stands in for all of them knows no
more than the hints that it keeps of the key; so it merges those and writes on top. Its note of the last dot
that it minted is in memory only: one that is lost, or does not fit what is there, opens a new epoch, which is
always safe (`causality.mint`). Nothing is stored here; the write is kept as hints, here and elsewhere. But
its request is remembered with what goes to the disk next (`requests_seen`), so that a write that was replaced
in a hint does not come back when it is sent again.

In: slots and packed records. Out: what is to be stored. Raises as `Replica.put` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dyno.causality.context import Malformed
from dyno.causality.dots import dot_of_request
from dyno.causality.record import OtherKind, Record
from dyno.errors import InvalidRequest
from dyno.protocol.group_commit import Refusal
from dyno.protocol.replica import NO_DOT, Written
from dyno.wire.messages import STATUS_REFUSED

if TYPE_CHECKING:
    from dyno.causality.context import Context
    from dyno.causality.mint import Note
    from dyno.protocol.hints import Hints
    from dyno.protocol.replica import Replica

_NOTES_MAX: Final = 10_000


class Substitute:
    """For all keys of which this node is no primary."""

    def __init__(self, *, replica: Replica, hints: Hints) -> None:
        self._replica = replica
        self._hints = hints
        self._notes: dict[bytes, Note] = {}  # by slot

    def put(
        self,
        slot: bytes,
        owners: Sequence[str],
        *,
        context: Context,
        request: bytes,
        value: bytes,
        again: bool = False,
    ) -> Written:
        """As `Replica.put`."""
        record = self._known(slot, owners)
        if not again and record.context.knows(request):
            done = self.recall(slot, owners, request)
            if done is not None:
                return done
        note = self._notes.pop(slot, None)
        packed, dot, note = self._replica.compose(
            record, note, context=context, request=request, value=value, again=again
        )
        if len(self._notes) >= _NOTES_MAX:
            del self._notes[next(iter(self._notes))]
        if note is not None:
            self._notes[slot] = note
        self._replica.learn(slot, request, dot)
        return Written(packed, record.context, dot, None)

    def delete(self, slot: bytes, owners: Sequence[str], *, context: Context) -> Written:
        known = self._known(slot, owners)
        return Written(known.delete(context).pack(), known.context, NO_DOT, None)

    def recall(self, slot: bytes, owners: Sequence[str], request: bytes) -> Written | None:
        """As `Replica.recall`, of what is kept here."""
        known = self._known(slot, owners)
        for sibling in known.siblings:
            if sibling.request == request:
                return Written(known.pack(), known.context, sibling.dot, None)
        for dot in (dot_of_request(request), *self._replica.seen.dots(slot, request)):
            if known.context.covers(dot):
                return Written(known.pack(), known.context, dot, None)
        return None

    def _known(self, slot: bytes, owners: Sequence[str]) -> Record:
        packed, _ = self._hints.read(slot, owners)
        try:
            return Record.unpack(packed) if packed else Record.EMPTY
        except OtherKind as error:
            raise InvalidRequest(f"the key holds no siblings: {error}") from None
        except Malformed as error:
            raise Refusal(STATUS_REFUSED, f"a malformed hint: {error}") from error
