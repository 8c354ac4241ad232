"""The commit numbers of other nodes' directories: how this node tells one that its disk is an old copy.

Every commit has a number, one higher than the last, on the same disk. Durable answers carry it, and the
greeting of every link; this node keeps the highest of each directory and tells it to the directory's next
process, which knows by it whether its disk was set back. What a process is told is what was known of its
directory *from before it started*: what it has committed itself since then says nothing.

In: greetings, whoever dialled, numbers of answers on links that this node dialled, and what others say of
themselves (`Committed`). Out: what to tell somebody who greets us, and one small fact, "commits", at most
once a second: with whatever commit comes next, or with one of its own. Bounded by the members that the facts
are about.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import TYPE_CHECKING, Final

from dyno.protocol.identity import COMMITS
from dyno.wire.flat import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dyno.wire.messages import Committed, Hello

KEEP_INTERVAL_S: Final = 1.0
_ROW = Struct(">16s8sQQ")  # directory, start, number, before


class _Entry:
    """number: the highest of the process with that start id; before: the highest of earlier ones."""

    __slots__ = ("before", "number", "start")

    def __init__(self, start: bytes, number: int, before: int) -> None:
        self.start = start
        self.number = number
        self.before = before


class Commits:
    """remembered: the fact as it was kept, b"" for none. Raises ProtocolError if that is damaged."""

    def __init__(self, remembered: bytes) -> None:
        self._entries: dict[bytes, _Entry] = {}  # by directory
        self._at: dict[str, bytes] = {}  # address of a link that is up → directory
        self._changed_at = math.inf
        self._kept_at = -math.inf
        if len(remembered) % _ROW.size:
            raise ProtocolError("the commit numbers of others are cut short")
        for directory, start, number, before in _ROW.iter_unpack(remembered):
            self._entries[directory] = _Entry(start, number, before)

    def greeted(self, address: str, hello: Hello, now: float) -> None:
        """The node at an address answered, over a link that this node dialled."""
        for other in [at for at, directory in self._at.items() if directory == hello.directory]:
            del self._at[other]  # it has moved
        self._at[address] = hello.directory
        self.met(hello, now)

    def met(self, hello: Hello, now: float) -> None:
        """A process says hello, whoever dialled."""
        entry = self._entries.get(hello.directory)
        if entry is None:
            self._entries[hello.directory] = _Entry(hello.start, hello.commit, 0)
        elif entry.start != hello.start:
            entry.before = max(entry.before, entry.number)
            entry.start, entry.number = hello.start, hello.commit
        elif hello.commit > entry.number:
            entry.number = hello.commit
        else:
            return
        self._changed_at = min(self._changed_at, now)

    def heard(self, address: str, number: int, now: float) -> None:
        """An answer over that link says that this commit is on the disk."""
        directory = self._at.get(address)
        if directory is not None:
            entry = self._entries[directory]
            if number > entry.number:
                entry.number = number
                self._changed_at = min(self._changed_at, now)

    def said(self, message: Committed, now: float) -> None:
        """A node tells of its last commit; one of whom no hello came is not believed."""
        entry = self._entries.get(message.directory)
        if entry is not None and entry.start == message.start and message.commit > entry.number:
            entry.number = message.commit
            self._changed_at = min(self._changed_at, now)

    def gone(self, address: str) -> None:
        """The link is down."""
        self._at.pop(address, None)

    def directory_at(self, address: str) -> bytes:
        """Of the node at the other end of a link that is up, as it said itself; b"" for none."""
        return self._at.get(address, b"")

    def from_before(self, hello: Hello) -> int:
        """The highest number known of a directory from before the process that says hello; 0 for none."""
        entry = self._entries.get(hello.directory)
        if entry is None:
            return 0
        return entry.before if entry.start == hello.start else max(entry.before, entry.number)

    # ── remembering ──

    def due(self, now: float) -> bool:
        """Whether a commit that is about to begin should take the numbers along."""
        return self._changed_at <= now and now >= self._kept_at + KEEP_INTERVAL_S

    def kept(self, directories: Iterable[bytes], now: float) -> dict[str, bytes]:
        """The fact to be written. directories: of all members; others are forgotten, but for those that links
        lead to."""
        wanted = dict.fromkeys((*directories, *self._at.values()))
        self._entries = {known: entry for known, entry in self._entries.items() if known in wanted}
        self._changed_at = math.inf
        self._kept_at = now
        rows = (_ROW.pack(d, entry.start, entry.number, entry.before) for d, entry in self._entries.items())
        return {COMMITS: b"".join(rows)}

    def deadline(self) -> float:
        """When a commit of their own is due, if none has come; infinity for never."""
        return self._changed_at + KEEP_INTERVAL_S
