"""Brings every call to an end: sends it, sends it again where that is safe, and gives up in time.

A retry keeps the request id and carries the time that is left. What is sent again and what is raised, and
when, `judging` tells; here are the queues, timers and tokens with which that is done.

All further requests, retries and hedges alike, spend one budget (`hedging.budget`). Where it is empty a hedge
is not made, and a retry stands in a queue until there is a token; its caller's timeout is the only limit.
A node that refused is spared by new calls for a moment, where another one can be asked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dyno.errors import Code, ConnectFailed, DynoError
from dyno.hedging.budget import Budget
from dyno.session import failures, judging
from dyno.session.judging import Advice
from dyno.session.links import PATIENCE_S
from dyno.session.timers import Timers
from dyno.wire.messages import AskMembers, Get

if TYPE_CHECKING:
    from random import Random

    from dyno.session.calls import Call, Trouble
    from dyno.session.changes import Changes
    from dyno.session.links import Links, NodeLink
    from dyno.session.outbox import SessionOutbox
    from dyno.session.paths import Paths
    from dyno.wire.messages import Failed

HEDGES_LEAVE = 50.0  # tokens: retries, without which there is an error, go before hedges


class Dispatch:
    """calls: all that are under way, by id."""

    def __init__(self, links: Links, paths: Paths, changes: Changes, random: Random) -> None:
        self.calls: dict[int, Call] = {}
        self._links = links
        self._paths = paths
        self._changes = changes
        self._random = random
        self._timers = Timers()
        self._budget = Budget()
        self._waiting: dict[int, Call] = {}  # for a link
        self._saving: dict[int, Call] = {}  # for a token of the budget
        self._spared: dict[str, NodeLink] = {}  # by address

    def begin(self, call: Call, now: float, out: SessionOutbox) -> None:
        self.calls[call.id] = call
        self._budget.firsts += 1
        self._send(call, now, out)

    def begin_later(self, call: Call, at: float) -> None:
        """Rest first, until `at`."""
        self.calls[call.id] = call
        self._timers.add(call, min(at, call.deadline))

    def hold(self, call: Call) -> None:
        """Only watch its deadline; somebody else concludes it."""
        self.calls[call.id] = call
        self._timers.add(call, call.deadline)

    def held(self) -> list[Call]:
        """Those that ask nothing, and only wait."""
        return [call for call in self.calls.values() if call.request is None]

    def found(self, call: Call, link: NodeLink, result: Any, now: float, out: SessionOutbox) -> None:
        """A read was answered over this link, which learns from it how long its reads usually take."""
        trouble = call.trouble
        if trouble is None or (link is call.link and not trouble.overdue):
            link.found_after(now - call.sent_at, now)
        self.conclude(call, result, now, out)

    def conclude(self, call: Call, result: Any, now: float, out: SessionOutbox) -> None:
        call.result = result
        trouble = call.trouble
        if trouble is not None and trouble.paid and call.error is None:
            trouble.paid = False
            self._budget.give_back()
        self._release(call)
        if self._waiting:
            self.send_waiting(now, out)  # before the next parts of a batch, which may be many
        if call.parent is None:
            out.finished.append(call)
        else:
            call.parent.ended(call, now, out)
        if self._saving:
            self._spend(now, out)

    def fail(self, call: Call, error: DynoError, now: float, out: SessionOutbox) -> None:
        if call.trouble is not None and call.trouble.doubted_since is not None:
            error = failures.doubted(call, error)
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
        self._saving.clear()
        for call in list(self.calls.values()):
            if call.link is None or call.reads:
                error: DynoError = ConnectFailed(reason)
            else:
                error = failures.lost(call, call.link.address, reason)
            error.__cause__ = cause
            self.fail(call, error, now, out)

    def refused(
        self, call: Call, link: NodeLink, failed: Failed, error: DynoError, now: float, out: SessionOutbox
    ) -> None:
        """A node that has the request would not, or could not, do it. error: what that is to the caller."""
        trouble = call.troubled()
        if failed.code == Code.CONFLICT and self.forgive(call, link):
            return  # to an earlier attempt, perhaps; what came of the later one nobody has said yet
        trouble.failure = error
        if failed.indeterminate:
            call.doubt()
        trouble.tried.append(link)
        if failed.code not in (Code.INVALID, Code.CONFLICT):
            self._spare(link, failed, now)
        self._leave(call, link)
        if call.link is None or failed.code == Code.INVALID:
            trouble.paid = False
            other = self._paths.pick(call, now, out)
            match judging.advice(call, trouble, failed, other=other, changes=self._changes, now=now):
                case Advice.ELSEWHERE:
                    trouble.elsewhere += 1
                    self._send_again(call, trouble, now, out)
                case Advice.LATER:
                    self._rest(call, trouble, failed, now)
                case _:
                    self.fail(call, error, now, out)
        # else: it was hedged, and the other link may still answer
        self.send_waiting(now, out)

    def forgive(self, call: Call, link: NodeLink) -> bool:
        """An answer on a link that was given up on, and perhaps asked again since. False: it never was."""
        trouble = call.trouble
        if trouble is None or link not in trouble.abandoned:
            return False
        trouble.abandoned.remove(link)
        return True

    def link_lost(
        self, link: NodeLink, reason: str, unsent: dict[int, bool], now: float, out: SessionOutbox
    ) -> None:
        """The link is down, and its window is void. unsent: ids whose request never left."""
        for call in self.calls.values():
            if call.trouble is not None and call.trouble.abandoned:  # of those it will answer none
                call.trouble.abandoned = [one for one in call.trouble.abandoned if one is not link]
        for call in [call for call in self.calls.values() if call.is_asked_at(link)]:
            _forget(call, link)
            if call.link is not None:
                continue  # a read that another link has as well
            if call.id in unsent:
                self._send_anew(call, now, out)
                continue
            trouble = call.doubt()
            if call.repeatable_until <= now:
                trouble.paid = False  # it was sent
                self.fail(call, failures.lost(call, link.address, reason), now, out)
            else:
                self._send_again(call, trouble, now, out)

    def send_waiting(self, now: float, out: SessionOutbox) -> None:
        """A link has room: the calls that waited longest go first."""
        while self._waiting:
            call = next(iter(self._waiting.values()))
            if self._paths.pick(call, now, out) is None:
                return
            del self._waiting[call.id]
            self._send_anew(call, now, out)

    def tick(self, now: float, out: SessionOutbox) -> None:
        due = self._timers.due(now)
        late: dict[int, DynoError] = {}
        for call in due:
            self._timers.add(call, call.deadline)  # every call that is under way is in there, always
            if call.deadline <= now:
                late[call.id] = judging.too_late(call, self._links, saving=call.id in self._saving)
            elif call.link is None and call.repeatable_until <= now:
                late[call.id] = failures.forgotten(call)
            if call.id in late:  # out of the queues, or it would be sent when another one makes room
                self._waiting.pop(call.id, None)
                self._saving.pop(call.id, None)
        for call in due:
            if call.id in late:
                self.fail(call, late[call.id], now, out)
            elif call.link is not None:
                self._look(call, call.link, now, out)
            elif call.id not in self._waiting and call.id not in self._saving:
                self._wake(call, now, out)
        if self._spared:
            self._spare_no_more(now, out)
        if self._saving:
            self._spend(now, out)

    def next(self) -> float:
        at = self._timers.next()
        if self._spared:
            at = min(at, *(link.spared_until or -math.inf for link in self._spared.values()))
        if self._saving:
            at = min(at, self._budget.token_at)
        return at

    # ── sending ──

    def _send(self, call: Call, now: float, out: SessionOutbox) -> None:
        """For a call that is in no place and has no timer."""
        link = self._paths.pick(call, now, out)
        if link is None:
            self._waiting[call.id] = call
            self._timers.add(call, call.repeatable_until)
            return
        call.link = link
        call.sent_at = now
        link.charge(call.weight)
        request = call.request
        out.sends.append((link.address, request))  # type: ignore[arg-type]
        late_at = now + (link.usual.seconds if type(request) is Get else PATIENCE_S)
        self._timers.add(call, late_at if late_at < call.deadline else call.deadline)

    def _send_again(self, call: Call, trouble: Trouble, now: float, out: SessionOutbox) -> None:
        """For a token; without one, when it is this call's turn to get one."""
        trouble.paid = False  # what was spent before is gone
        if self._saving or not self._budget.take(now):
            self._saving[call.id] = call
            self._timers.remove(call)
            self._timers.add(call, call.repeatable_until)
        else:
            trouble.paid = True
            self._send_anew(call, now, out)

    def _spend(self, now: float, out: SessionOutbox) -> None:
        """There may be tokens again: who waited longest goes first."""
        while self._saving and self._budget.take(now):
            call = self._saving.pop(next(iter(self._saving)))
            call.troubled().paid = True
            self._send_anew(call, now, out)

    def _send_anew(self, call: Call, now: float, out: SessionOutbox) -> None:
        """With the time that is left; to a link that was tried already only when there is no other."""
        self._timers.remove(call)
        call.trim(now)
        trouble = call.trouble
        if trouble is not None and trouble.tried and self._paths.pick(call, now, out) is None:
            trouble.tried.clear()
        self._send(call, now, out)

    def _rest(self, call: Call, trouble: Trouble, failed: Failed, now: float) -> None:
        """The nodes that were tried may be asked anew after it, but the last one."""
        pause = judging.pause_s(call, trouble, failed, draw=self._random.random(), now=now)
        at = min(now + pause, call.repeatable_until)
        trouble.rests += 1
        trouble.elsewhere = 0
        del trouble.tried[:-1]
        self._timers.remove(call)
        self._timers.add(call, at)

    def _wake(self, call: Call, now: float, out: SessionOutbox) -> None:
        if call.trouble is not None:
            self._send_again(call, call.trouble, now, out)
        else:  # its first attempt, that was to be made later
            self._budget.firsts += 1
            self._send_anew(call, now, out)

    def _spare(self, link: NodeLink, failed: Failed, now: float) -> None:
        """What it refused to one it would refuse to others: they need not learn it each by a retry."""
        link.spare(now + judging.spared_s(failed, draw=self._random.random()))
        self._spared[link.address] = link

    def _spare_no_more(self, now: float, out: SessionOutbox) -> None:
        for address, link in list(self._spared.items()):
            if link.spared_until is None or link.spared_until <= now:
                del self._spared[address]
                link.spared_until = None
                link.refresh()
        self.send_waiting(now, out)

    # ── late answers ──

    def _look(self, call: Call, link: NodeLink, now: float, out: SessionOutbox) -> None:
        """An answer is late. If the link says nothing else either, it is probably dead."""
        if type(call.request) is Get:
            self._overtake(call, call.troubled(), link, now, out)
        silent_at = max(link.heard_at, call.sent_at) + PATIENCE_S
        if silent_at <= now:
            silent_at = now + PATIENCE_S  # look again then
            if link.silent_at is None:
                link.fall_silent(now)
                out.sends.append((link.address, AskMembers(0)))  # whatever it says proves that it lives
            if not call.creates and now < call.repeatable_until and self._abandon(call, link, now, out):
                return
        self._timers.remove(call)
        self._timers.add(call, min(silent_at, call.deadline))

    def _overtake(self, call: Call, trouble: Trouble, link: NodeLink, now: float, out: SessionOutbox) -> None:
        """A read is later than usual: ask another primary as well."""
        if not trouble.overdue:
            trouble.overdue = True
            link.found_late(now)
        if trouble.also is not None:
            return
        other = self._paths.overtaking(call, link)
        if other is not None and self._budget.take(now, leave=HEDGES_LEAVE):
            trouble.also, trouble.also_at = other, now
            other.charge(call.weight)
            call.trim(now)
            out.sends.append((other.address, call.request))  # type: ignore[arg-type]

    def _abandon(self, call: Call, link: NodeLink, now: float, out: SessionOutbox) -> bool:
        """A silent link need not be waited for; what it says all the same is welcome. False: nobody else can
        be asked now, or somebody is asked already."""
        trouble = call.troubled()
        if trouble.also is not None:
            self._leave(call, link)
            return False
        if self._paths.pick(call, now, out) is None:
            return False
        call.doubt()
        if call.writes:
            trouble.abandoned.append(link)
        self._leave(call, link)
        self._send_again(call, trouble, now, out)
        return True

    # ── leaving ──

    def _leave(self, call: Call, link: NodeLink) -> None:
        """One of its links has nothing more to do for it."""
        link.discharge(call.weight)
        _forget(call, link)

    def _release(self, call: Call) -> None:
        del self.calls[call.id]
        self._timers.remove(call)
        if call.link is None:
            self._waiting.pop(call.id, None)
            self._saving.pop(call.id, None)
            if call.trouble is not None and call.trouble.paid:
                self._budget.give_back()  # for what was never sent
        while call.link is not None:
            self._leave(call, call.link)


def _forget(call: Call, link: NodeLink) -> None:
    """The call is not on this link any more; where a second one has it, that is the first now."""
    trouble = call.trouble
    if trouble is not None and trouble.also is not None:
        if link is call.link:
            call.link, call.sent_at = trouble.also, trouble.also_at
        trouble.also = None
    else:
        call.link = None
