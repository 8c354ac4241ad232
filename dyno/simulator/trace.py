"""What happened in a simulation: a digest of everything, and a story of the last of it.

In: every event, as (time, source, target, what), where what is a message or a text. Out: `digest`, a running
BLAKE2b over all of it, which tells two runs apart that differ in a single bit, and `story`, one line per
event, for whoever has to find out why a test failed.

Events are hashed as flat CBOR, many at a time, for that costs less than a microsecond each. Only the last
`kept` are kept for the story. Whoever has to see all of them as they happen, listens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

from cbor2 import dumps

if TYPE_CHECKING:
    from dyno.wire.messages import Datagram, Message

    What: TypeAlias = Message | Datagram | str
    _Event: TypeAlias = tuple[float, str, str, What]

_HASHED_AT_ONCE: Final = 256  # events
_DIGEST_BYTES: Final = 16
_BYTES_SHOWN: Final = 12


class Trace:
    """kept: how many events the story can tell of. listeners: told of every event, as `note` is."""

    __slots__ = ("_events", "_hash", "_hashed", "_unhashed", "listeners")

    def __init__(self, *, kept: int) -> None:
        self.listeners: list[Callable[[float, str, str, What], object]] = []
        self._events: deque[_Event] = deque(maxlen=kept)
        self._unhashed: list[_Event] = []
        self._hashed = 0
        self._hash = blake2b(digest_size=_DIGEST_BYTES)

    def note(self, now: float, source: str, target: str, what: What) -> None:
        """An event at the time at which it took effect: a message when it arrived."""
        event = (now, source, target, what)
        self._events.append(event)
        for listen in self.listeners:
            listen(now, source, target, what)
        unhashed = self._unhashed
        unhashed.append(event)
        if len(unhashed) == _HASHED_AT_ONCE:
            # Where a row is cut depends on the run alone, so equal runs are cut alike.
            self._hash.update(_packed(unhashed))
            self._hashed += _HASHED_AT_ONCE
            unhashed.clear()

    @property
    def count(self) -> int:
        """How many events there were."""
        return self._hashed + len(self._unhashed)

    def digest(self) -> str:
        """Hexadecimal; asking changes nothing, and events may follow."""
        digest = self._hash.copy()
        digest.update(_packed(self._unhashed))
        return digest.hexdigest()

    def story(self, events: int) -> str:
        """The last so many events, one per line, long bytes cut short."""
        skipped = max(0, len(self._events) - events)
        return "\n".join(line(*event) for at, event in enumerate(self._events) if at >= skipped)


def _packed(events: list[_Event]) -> bytes:
    fields: list[object] = []
    for event in events:
        fields.extend(event)
        what = event[3]
        if not isinstance(what, str):
            fields[-1] = type(what).__name__
            fields.extend(what)
    return dumps(fields)


def line(now: float, source: str, target: str, what: What) -> str:
    """An event for people."""
    return f"{now:12.6f}  {source + ' → ' + target if target else source:<24} {_shown(what)}"


def _shown(what: What) -> str:
    if isinstance(what, str):
        return what
    fields = [
        f"{name}={_shown_field(value)}"
        for name, value in zip(what._fields, what, strict=True)
        if value != b""
    ]
    return f"{type(what).__name__}({', '.join(fields)})"


def _shown_field(value: object) -> str:
    if isinstance(value, bytes):
        cut = value[:_BYTES_SHOWN].hex()
        return cut if len(value) <= _BYTES_SHOWN else f"{cut}…[{len(value)}]"
    return str(value)
