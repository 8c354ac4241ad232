"""Brings every call to an end: sends it, sends it again where that is safe, and gives up in time.

A retry keeps the request id and carries the time that is left. What happens when:

    what comes                       a read                           a write (put, put if_context, delete)
    ───────────────────────────────  ───────────────────────────────  ───────────────────────────────────────
    its answer                       result                           result
    invalid, conflict                raised                           raised
    ring (nothing was done)          again after a pause              again after a pause
    overloaded (nothing was done)    again after retry_after, other   the same
                                     nodes first; raised after
                                     OVERLOADED_RETRIES_MAX, or when
                                     the pause is too long
    quorum or storage,               at once at up to                 the same: nothing was done, and another
    determinate                      ELSEWHERE_MAX other nodes, then  coordinator may see more nodes alive
                                     raised
    quorum or storage,               like determinate                 raised: some replica may have kept it
    indeterminate
    link lost, surely not sent       at once elsewhere                at once elsewhere
    link lost after sending          at once elsewhere                QuorumNotMet, indeterminate
    link silent for PATIENCE_S       asked elsewhere too; the first   goes on waiting; new calls avoid the
                                     answer counts                    link
    no link ready                    waits for one                    waits for one
    the caller's timeout             RequestTimeout, determinate      RequestTimeout, indeterminate if sent;
                                     or, while it rested or waited: the refusal that made it rest;
                                     ConnectFailed when no link is up

A conditional put is a write like others: where nothing was done, the condition was not even looked at, or
stays as it was.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from dyno.errors import Code, ConnectFailed, DynoError
from dyno.session import failures
from dyno.session.timers import Timers
from dyno.wire.messages import AskMembers, Delete, Get, GetMany, Put

if TYPE_CHECKING:
    from random import Random

    from dyno.session.calls import Call, Trouble
    from dyno.session.links import Links, NodeLink
    from dyno.session.outbox import SessionOutbox
    from dyno.session.paths import Paths
    from dyno.wire.messages import Failed

PATIENCE_S = 0.5  # a link that owes an answer and says nothing at all for so long is silent
OVERLOADED_RETRIES_MAX = 4
OVERLOADED_PAUSE_MIN_S = 0.02
ELSEWHERE_MAX = 2
RING_PAUSE_MIN_S = 0.05
RING_PAUSE_MAX_S = 0.5


class _Advice(Enum):
    RAISE = "raise"
    LATER = "later"
    ELSEWHERE = "elsewhere"


class Dispatch:
    """calls: all that are under way, by id."""

    def __init__(self, links: Links, paths: Paths, random: Random) -> None:
        self.calls: dict[int, Call] = {}
        self._links = links
        self._paths = paths
        self._random = random
        self._timers = Timers()
        self._waiting: dict[int, Call] = {}

    def begin(self, call: Call, now: float, out: SessionOutbox) -> None:
        self.calls[call.id] = call
        self._send(call, now, out)

    def begin_later(self, call: Call, at: float) -> None:
        """Rest first, until `at`."""
        self.calls[call.id] = call
        self._timers.add(call, min(at, call.deadline))

    def hold(self, call: Call) -> None:
        """Only watch its deadline; somebody else concludes it."""
        self.calls[call.id] = call
        self._timers.add(call, call.deadline)

    def conclude(self, call: Call, result: Any, now: float, out: SessionOutbox) -> None:
        call.result = result
        self._release(call)
        if self._waiting:
            self.send_waiting(now, out)  # before the next parts of a batch, which may be many
        if call.parent is None:
            out.finished.append(call)
        else:
            call.parent.ended(call, now, out)

    def fail(self, call: Call, error: DynoError, now: float, out: SessionOutbox) -> None:
        call.error = error
        self.conclude(call, None, now, out)

    def cancel(self, call: Call, now: float, out: SessionOutbox) -> None:
        """Nobody waits for it any more. A call that has ended already is left alone."""
        if call.id in self.calls:
            self._release(call)
            self.send_waiting(now, out)

    def end_all(self, reason: str, cause: BaseException | None, now: float, out: SessionOutbox) -> None:
        """The client goes away."""
        self._waiting.clear()  # or they would be sent as the others make room
        for call in list(self.calls.values()):
            if call.link is None or call.reads:
                error: DynoError = ConnectFailed(reason)
            else:
                error = failures.lost(call, call.link.address, reason)
            error.__cause__ = cause
            self.fail(call, error, now, out)

    def refused(self, call: Call, failed: Failed, error: DynoError, now: float, out: SessionOutbox) -> None:
        """The node that has the request would not, or could not, do it. error: what that is to the caller."""
        assert call.link is not None
        trouble = call.troubled()
        trouble.failure = error
        trouble.tried.append(call.link)
        self._leave_link(call)
        match self._advice(call, failed, now):
            case _Advice.ELSEWHERE if self._paths.pick(call, now, out) is not None:
                trouble.shortages += 1
                self._send_again(call, now, out)
            case _Advice.LATER:
                self._timers.remove(call)
                self._timers.add(call, min(now + self._pause(trouble, failed), call.deadline))
                trouble.refusals += 1
            case _:
                self.fail(call, error, now, out)
        self.send_waiting(now, out)

    def link_lost(
        self, link: NodeLink, reason: str, unsent: dict[int, bool], now: float, out: SessionOutbox
    ) -> None:
        """The link is down, and its window is void. unsent: ids whose request never left."""
        for call in [call for call in self.calls.values() if call.link is link]:
            call.link = None
            if call.reads or call.id in unsent:
                self._send_again(call, now, out)
            else:
                self.fail(call, failures.lost(call, link.address, reason), now, out)

    def send_waiting(self, now: float, out: SessionOutbox) -> None:
        """A link has room: the calls that waited longest go first."""
        while self._waiting:
            call = next(iter(self._waiting.values()))
            if self._paths.pick(call, now, out) is None:
                return
            del self._waiting[call.id]
            self._send_again(call, now, out)

    def tick(self, now: float, out: SessionOutbox) -> None:
        due = self._timers.due(now)
        for call in due:
            self._timers.add(call, call.deadline)  # every call that is under way is in there, always
            if call.deadline <= now:
                self._waiting.pop(call.id, None)  # or it would be sent when another one makes room
        for call in due:
            if call.deadline <= now:
                self.fail(call, self._too_late(call), now, out)
            elif call.link is not None:
                self._grow_impatient(call, call.link, now, out)
            elif call.id not in self._waiting:
                self._send_again(call, now, out)

    def next(self) -> float:
        return self._timers.next()

    # ── sending ──

    def _send(self, call: Call, now: float, out: SessionOutbox) -> None:
        """For a call that is in no place and has no timer."""
        link = self._paths.pick(call, now, out)
        if link is None:
            self._waiting[call.id] = call
            self._timers.add(call, call.deadline)
            return
        call.link = link
        call.sent_at = now
        link.charge(call.weight)
        out.sends.append((link.address, call.request))  # type: ignore[arg-type]
        impatient_at = now + PATIENCE_S
        self._timers.add(call, impatient_at if impatient_at < call.deadline else call.deadline)

    def _send_again(self, call: Call, now: float, out: SessionOutbox) -> None:
        """With the time that is left; to a link that was tried already only when there is no other."""
        self._timers.remove(call)
        request = call.request
        if isinstance(request, Get | GetMany | Put | Delete):
            call.request = request._replace(budget_ms=max(1, int((call.deadline - now) * 1000)))
        trouble = call.trouble
        if trouble is not None and trouble.tried and self._paths.pick(call, now, out) is None:
            trouble.tried.clear()
        self._send(call, now, out)

    def _grow_impatient(self, call: Call, link: NodeLink, now: float, out: SessionOutbox) -> None:
        """An answer is late. If the link says nothing else either, it is probably dead."""
        silent_at = max(link.heard_at, call.sent_at) + PATIENCE_S
        if silent_at <= now:
            silent_at = now + PATIENCE_S  # look again then
            if link.silent_at is None:
                link.fall_silent(now)
                out.sends.append((link.address, AskMembers(0)))  # whatever it says proves that it lives
            if call.reads and self._paths.pick(call, now, out) is not None:
                self._leave_link(call)
                self._send_again(call, now, out)
                return
        self._timers.remove(call)
        self._timers.add(call, min(silent_at, call.deadline))

    def _leave_link(self, call: Call) -> None:
        assert call.link is not None
        call.link.discharge(call.weight)
        call.link = None

    def _release(self, call: Call) -> None:
        del self.calls[call.id]
        self._timers.remove(call)
        if call.link is not None:
            self._leave_link(call)
        else:
            self._waiting.pop(call.id, None)

    # ── judging ──

    def _advice(self, call: Call, failed: Failed, now: float) -> _Advice:
        """The table above, for refusals."""
        trouble = call.troubled()
        if failed.indeterminate and not call.reads:
            return _Advice.RAISE
        if failed.code == Code.RING:
            return _Advice.LATER
        if failed.code == Code.OVERLOADED and trouble.refusals < OVERLOADED_RETRIES_MAX:
            worth_it = now + failed.retry_after_ms / 1000 < call.deadline
            return _Advice.LATER if worth_it else _Advice.RAISE
        if failed.code in (Code.QUORUM, Code.STORAGE) and trouble.shortages < ELSEWHERE_MAX:
            return _Advice.ELSEWHERE
        return _Advice.RAISE

    def _pause(self, trouble: Trouble, failed: Failed) -> float:
        """Doubles with every refusal, and is jittered by half of it either way."""
        factor = 1 << min(trouble.refusals, 16)
        if failed.code == Code.RING:
            pause = min(RING_PAUSE_MIN_S * factor, RING_PAUSE_MAX_S)
        else:
            pause = max(failed.retry_after_ms / 1000, OVERLOADED_PAUSE_MIN_S) * factor
        return pause * (0.5 + self._random.random())

    def _too_late(self, call: Call) -> DynoError:
        """The caller's timeout passed."""
        if call.link is not None:
            text = f"{call.link.name} at {call.link.address} did not answer in time"
            return failures.timeout(call, text, indeterminate=not call.reads)
        if call.trouble is not None and call.trouble.failure is not None:
            return call.trouble.failure
        if self._links.any_up:
            text = "no node took the request in time: all are silent, or have too much to answer"
            return failures.timeout(call, text, indeterminate=False)
        return failures.unreachable(self._links.why())
