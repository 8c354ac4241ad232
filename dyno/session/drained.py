"""Waiting until no hint waits for a living node: `Client.hints_drained` as a machine.

In: one status of the cluster after another, a pause between them. Out: the calls that ask for them, and what
still waits, for whoever shows progress. It is done when no hint is kept for a node that lives, and all nodes
that live have said what they keep; one that is merely suspected counts as living. What waits for a node that
is dead does not count, for nothing can be done about it now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dyno.errors import RequestTimeout
from dyno.session import options

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

PAUSE_S: Final = 0.25  # between an answer and the next question


class Backlog(NamedTuple):
    """hints: how many wait for which living node. unheard: living nodes that did not say what they keep."""

    hints: dict[str, int]
    unheard: list[str]

    def __bool__(self) -> bool:
        return bool(self.hints or self.unheard)

    def __str__(self) -> str:
        """As people read it: "12 hints wait for n2"."""
        if self.hints:
            count = sum(self.hints.values())
            return f"{count} {'hint waits' if count == 1 else 'hints wait'} for {', '.join(self.hints)}"
        return f"{', '.join(self.unheard)} did not say which hints are kept there" if self.unheard else ""


def backlog_of(status: dict[str, Any]) -> Backlog:
    """What has to be waited for, by the dict of `Client.status`."""
    living = [member["name"] for member in status["members"] if member["liveness"] != "dead"]
    waiting, unheard = status["hints_for"], status["unheard"]
    return Backlog(
        {name: waiting[name] for name in living if name in waiting},
        [name for name in living if name in unheard],
    )


class Drained:
    """One wait. `start`, and `step` after each call that ended, until `step` returns None. backlog: by the
    last status."""

    def __init__(self, session: Session, *, timeout: float | None, now: float) -> None:
        """timeout: seconds; None to wait as long as it takes."""
        self.backlog: Backlog | None = None
        self._session = session
        self._deadline = None if timeout is None else now + options.timeout_s(timeout)

    def start(self, now: float, out: SessionOutbox) -> Call:
        return self._ask(0.0, now, out)

    def step(self, call: Call, now: float, out: SessionOutbox) -> Call | None:
        """The next call; None when nothing waits any more. Raises what ended it: RequestTimeout, or why the
        cluster cannot be asked."""
        if call.error is not None:
            raise call.error
        self.backlog = backlog_of(call.result)
        return self._ask(PAUSE_S, now, out) if self.backlog else None

    def _ask(self, delay: float, now: float, out: SessionOutbox) -> Call:
        patience = self._session.requests.timeout
        if self._deadline is not None:
            patience = min(patience, self._deadline - now - delay)
            if patience <= 0:
                raise RequestTimeout(
                    f"the time is over, and {self.backlog}",
                    needed=0,
                    answered=0,
                    nodes=(),
                    indeterminate=False,
                )
        timeout = min(delay + patience, options.TIMEOUT_MAX_S)  # the pause counts
        return self._session.status(timeout=timeout, delay=delay, now=now, out=out)
