"""Hand the hints that are kept here over to those whom they are for.

For every target that can be asked its hints are walked through in key order: read from the disk page by
page, sent as `HandOver`, a bounded number of them under way, and deleted once the target has them durably, if
they are unchanged since. The rows themselves are all the state there is, so a walk that ends anywhere (a link
breaks, either side restarts) begins anew with what is left, and what is handed over twice is merged twice.

It begins when a link to a target comes up, and when a new hint for one that can be asked is on the disk;
while nothing waits there is nothing to do and no deadline. It yields to clients: no more than
`handoff_rate_bytes_max` per second, nothing while writes wait here for the disk, and a pause of
`handoff_retry_s` where a target refuses. What a target will never take is set aside (`rows.ASIDE`).
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.group_commit import Refusal
from dyno.wire.messages import STATUS_OK, STATUS_REAPED, STATUS_REFUSED, HandOver, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dyno.config import Config
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.hints import Hint, Hints
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.replica import Replica

_UNDER_WAY_MAX: Final = 64  # hints sent to one target and not answered
_BYTES_UNDER_WAY_MAX: Final = 1 << 20  # of those; a larger one goes alone
_BURST_S: Final = 0.05  # how much of the rate may be used at once
_YIELD_SHARE: Final = 0.25  # of the delay at which clients' writes are refused: then this waits
_YIELD_S: Final = 0.1


class _Walk:
    """Through the hints for one target. page: read and not sent yet; onward: where the next page begins, None
    behind the last. under_way: by id. dirty: there was more since the walk began. resumes_at: after a
    pause."""

    __slots__ = ("bytes", "dirty", "onward", "page", "resumes_at", "target", "under_way")

    def __init__(self, target: str) -> None:
        self.target = target
        self.page: deque[Hint] = deque()
        self.under_way: dict[int, Hint] = {}
        self.bytes = 0
        self.onward: bytes | None = b""
        self.dirty = False
        self.resumes_at = -math.inf

    def begin_anew(self) -> None:
        self.page.clear()
        self.onward = b""
        self.dirty = False


class Handoff(Background):
    """A part that works in the background (`background`)."""

    number: ClassVar[int] = 1

    def __init__(
        self, *, config: Config, hints: Hints, replica: Replica, peers: Peers, planner: Planner
    ) -> None:
        self._rate = config.handoff_rate_bytes_max
        self._retry_s = config.handoff_retry_s
        self._yields_at_s = config.write_delay_max_s * _YIELD_SHARE
        self._hints = hints
        self._replica = replica
        self._peers = peers
        self._planner = planner
        self._last_id = self.number << ID_BITS
        self._walks: dict[str, _Walk] = {}
        self._free_at = -math.inf  # when the rate allows the next hint
        self._due_at = math.inf

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {}

    def kept(self, target: str, batch: Batch | None) -> None:
        """A hint for this target is on its way to the disk: it is handed over when it is there."""
        if batch is not None:
            batch.waiters.append(partial(self._committed, target))

    def answer(self, node: str, message: Stored, now: float, out: Outbox) -> None:
        """Raises ValueError for what is no answer to a hint."""
        if not isinstance(message, Stored):
            raise ValueError(f"a {type(message).__name__} is no answer to a hint")
        walk = self._walks.get(node)
        hint = walk.under_way.pop(message.id, None) if walk is not None else None
        if walk is None or hint is None:
            return
        walk.bytes -= len(hint.record)
        status = message.status
        try:
            if status == STATUS_OK:
                self._watch(walk, self._hints.delete(node, hint))
                self._replica.mended.handed_over += 1
            elif status in (STATUS_REAPED, STATUS_REFUSED):
                self._set_aside(walk, hint, status, out)
            else:
                self._pause(walk, now)
        except Refusal:  # this disk takes nothing now: the hint stays, and is handed over once more
            self._pause(walk, now)
        self._go_on(walk, now, out)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        if self._hints.has(node):
            self._begin(node, now, out)

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        self._walks.pop(node, None)

    def replan(self, now: float, out: Outbox) -> None:
        """Whoever refused for its view of the ring is asked again after its pause, as ever."""

    def tick(self, now: float, out: Outbox) -> None:
        for walk in list(self._walks.values()):
            if walk.resumes_at <= now:
                self._go_on(walk, now, out)
        self._settle()

    def deadline(self) -> float:
        return self._due_at

    # ── inside ──

    def _committed(self, target: str, status: int, now: float, out: Outbox) -> None:
        if status != STATUS_OK:
            self._failed(target, now)  # it may have changed one that was left out for that
        elif self._peers.can_ask(target):
            walk = self._walks.get(target)
            if walk is None:
                self._begin(target, now, out)
            else:
                walk.dirty = True

    def _begin(self, target: str, now: float, out: Outbox) -> None:
        walk = self._walks[target] = _Walk(target)
        self._go_on(walk, now, out)

    def _go_on(self, walk: _Walk, now: float, out: Outbox) -> None:
        """Send as much as may be under way now."""
        ring = self._planner.ring
        assert ring is not None, "nobody can be asked before"
        while walk.resumes_at <= now and self._has_room(walk) and self._next(walk):
            if self._replica.delay_s(now) > self._yields_at_s:
                walk.resumes_at = now + _YIELD_S
                break
            if self._free_at > now:
                walk.resumes_at = self._free_at
                break
            hint = walk.page.popleft()
            if hint.value is None:
                self._drop(walk, hint, now, out)
            elif self._hints.is_newest(hint):  # else what is on its way to the disk tells of itself
                self._send(walk, hint, ring.fingerprint, now, out)
        if not walk.page and walk.onward is None and not walk.under_way and walk.resumes_at <= now:
            self._end(walk)
        self._settle()

    def _has_room(self, walk: _Walk) -> bool:
        return len(walk.under_way) < _UNDER_WAY_MAX and walk.bytes < _BYTES_UNDER_WAY_MAX

    def _next(self, walk: _Walk) -> bool:
        """Whether there is a next one to send, read from the disk if need be."""
        if not walk.page and walk.onward is not None:
            hints, walk.onward = self._hints.page(walk.target, walk.onward, limit=_UNDER_WAY_MAX)
            walk.page.extend(hints)
        if not walk.page and walk.dirty and not walk.under_way:
            walk.begin_anew()
            hints, walk.onward = self._hints.page(walk.target, b"", limit=_UNDER_WAY_MAX)
            walk.page.extend(hints)
        return bool(walk.page)

    def _send(self, walk: _Walk, hint: Hint, ring: int, now: float, out: Outbox) -> None:
        self._last_id += 1
        message = HandOver(self._last_id, ring, hint.slot, hint.key, hint.record, hint.generation)
        if self._peers.send(walk.target, message, out):
            walk.under_way[message.id] = hint
            walk.bytes += len(hint.record)
            self._free_at = max(self._free_at, now - _BURST_S) + len(hint.record) / self._rate

    def _end(self, walk: _Walk) -> None:
        """All was sent and answered. What changed meanwhile, or is still on its way to the disk, tells of
        itself when it is there."""
        self._walks.pop(walk.target, None)

    def _watch(self, walk: _Walk, batch: Batch | None) -> None:
        """A deletion that does not come to the disk leaves a hint that is to be handed over again. (One that
        changed meanwhile is told of by its own commit.)"""
        if batch is not None:
            batch.waiters.append(partial(self._deleted, walk.target))

    def _deleted(self, target: str, status: int, now: float, out: Outbox) -> None:
        if status != STATUS_OK:
            self._failed(target, now)

    def _failed(self, target: str, now: float) -> None:
        """What is on the disk stays there, and is walked through once more."""
        if self._hints.has(target) and self._peers.can_ask(target):
            walk = self._walks.get(target)
            if walk is None:
                walk = self._walks[target] = _Walk(target)
            self._pause(walk, now)
            self._settle()

    def _set_aside(self, walk: _Walk, hint: Hint, status: int, out: Outbox) -> None:
        why = "is older than what was reaped since" if status == STATUS_REAPED else "contradicts its copy"
        text = f"{walk.target} does not take a hint for key {hint.key!r}, which {why}; it is set aside"
        self._watch(walk, self._hints.set_aside(walk.target, hint))
        out.events.append(("error", text))

    def _drop(self, walk: _Walk, hint: Hint, now: float, out: Outbox) -> None:
        try:
            self._watch(walk, self._hints.drop_damaged(walk.target, hint))
        except Refusal:
            self._pause(walk, now)
            return
        text = (
            f"a hint for {walk.target} was damaged on this disk and is dropped; other copies make up for it"
        )
        out.events.append(("error", text))

    def _pause(self, walk: _Walk, now: float) -> None:
        """After a refusal. What was refused comes again in the next walk: one record that the target cannot
        take, for its own is damaged, must not hold up all others."""
        walk.resumes_at = now + self._retry_s
        walk.dirty = True

    def _settle(self) -> None:
        self._due_at = min(
            (walk.resumes_at for walk in self._walks.values() if self._waits(walk)), default=math.inf
        )

    def _waits(self, walk: _Walk) -> bool:
        """Whether it has something to send, once it may; answers move it on by themselves."""
        more = walk.page or walk.onward is not None or (walk.dirty and not walk.under_way)
        return bool(more) and self._has_room(walk)
