"""What one directory has promised and accepted about the next entry: a Paxos acceptor, as a value.

Single-decree Paxos (Lamport 2001), one instance per number. A *ballot* is 16 bytes, a round and the start
id of the process that runs it, so no ballot is ever used twice, whatever a proposer forgets. Whoever
promised a ballot accepts nothing below it; whoever accepted a value names it in every later promise.

A *fence* is the number of a forced entry to which this directory assented: it then votes for nothing, until
it knows that entry or any other after the present one.

All of it is lost together with the directory, whose id stands in the packed form: another directory does not
inherit votes, it has none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cbor2 import dumps

from dyno.ringlog.entry import ID_BYTES
from dyno.wire.flat import FlatDecoder, ProtocolError

BALLOT_BYTES: Final = 16
ROUND_MAX: Final = 1 << 62  # no process gets that far; what claims to is nonsense
NO_BALLOT: Final = b""

_START_BYTES: Final = 8


class Vote(NamedTuple):
    """number: of the entry that is voted about. promised, accepted: ballots, b"" for none. value: the packed
    entry that was accepted. fence: 0 for none."""

    directory: bytes
    number: int
    promised: bytes = NO_BALLOT
    accepted: bytes = NO_BALLOT
    value: bytes = b""
    fence: int = 0

    def promise(self, ballot: bytes) -> Vote | None:
        """None: no. The same ballot may be promised again, for messages are doubled."""
        if self.fence or ballot < self.promised:
            return None
        return self._replace(promised=ballot)

    def accept(self, ballot: bytes, value: bytes) -> Vote | None:
        if self.fence or ballot < self.promised or (ballot == self.accepted and value != self.value):
            return None
        return self._replace(promised=ballot, accepted=ballot, value=value)

    def assent(self, fence: int) -> Vote | None:
        """To a forced entry, if it is above all to which it assented before."""
        return None if fence < self.fence else self._replace(fence=fence)


def ballot_of(round: int, start: bytes) -> bytes:
    return round.to_bytes(BALLOT_BYTES - _START_BYTES, "big") + start


def round_of(ballot: bytes) -> int:
    return int.from_bytes(ballot[:-_START_BYTES], "big")


def is_ballot(ballot: bytes) -> bool:
    return len(ballot) == BALLOT_BYTES and 0 < round_of(ballot) < ROUND_MAX


def pack(vote: Vote) -> bytes:
    return dumps(list(vote))


def unpack(data: bytes) -> Vote:
    """Raises ProtocolError for all that `pack` does not give."""
    fields = FlatDecoder().decode(data)
    if tuple(map(type, fields)) != _TYPES:
        raise ProtocolError("a vote with fields of other types")
    vote = Vote(*fields)  # type: ignore[arg-type]
    ballots = [ballot for ballot in (vote.promised, vote.accepted) if ballot]
    if len(vote.directory) != ID_BYTES or not all(map(is_ballot, ballots)) or vote.accepted > vote.promised:
        raise ProtocolError("a vote that cannot be")
    return vote


_TYPES = (bytes, int, bytes, bytes, bytes, int)
