"""Whether this process ran all the time, and heard anybody: else it cannot say that others were silent.

A process that was stopped, starved or on a machine that slept finds, when it goes on, that all its waiting is
over: probes have failed, suspects had their time. What would have told it otherwise waits to be read, and
it cannot know how much of that there is. But it can see the gap in its own clock: it asked to be woken at a
time, and that is long past. So a *pause* counts as no time at all, and for a while after it nobody is judged,
until what had come meanwhile has been read and answers to what was sent last could come.

A process whose network stands still sees no gap. But while there are several members, that all of them die
at once is less likely than that it is *deaf*: time in which nobody was heard does not count for suspicions
either. That has an end, for they may be dead indeed, or cut off, and then who is left has to know.

In: the time at each look, when this process had asked to be woken, and whether somebody was heard. Out: by
how much waiting is to be prolonged, when to look again at the latest, and whether this node is deaf, so that
who waits for others need not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dyno.config import Config

DEAF_INTERVALS: Final = 2  # of probing without a word from anybody


class Wakefulness:
    """Later than asked for by more than a probe timeout is a pause. Deafness is believed for as long as a
    suspect has at most in a small cluster. deaf: nobody was heard for some time when this looked last,
    however long that has been."""

    __slots__ = (
        "_deaf_after_s",
        "_deaf_max_s",
        "_deaf_s",
        "_grace_s",
        "_heard_at",
        "_look_s",
        "_looked_at",
        "deaf",
    )

    def __init__(self, config: Config) -> None:
        interval_s = config.probe_interval_s
        self._grace_s = config.probe_timeout_s
        self._look_s = interval_s
        self._looked_at: float | None = None
        self._deaf_after_s = DEAF_INTERVALS * interval_s
        self._deaf_max_s = config.suspicion_mult * config.suspicion_max_mult * interval_s
        self._heard_at = 0.0
        self.deaf = False
        self._deaf_s = 0.0

    def look(self, now: float, *, due: float | None, hears: bool) -> tuple[float, float]:
        """Seconds of a pause, and of deafness, since the last look."""
        last, self._looked_at = self._looked_at, now
        if last is None or hears:
            self._heard_at, self._deaf_s, self.deaf = now, 0.0, False
        if last is None:
            return 0.0, 0.0
        if due is not None and now - due > self._grace_s:
            return now - max(due, last) + self._grace_s, 0.0
        return 0.0, self._deaf_since(last, now)

    def deadline(self) -> float | None:
        """So that a pause between two deadlines that lie far apart is seen, too."""
        return None if self._looked_at is None else self._looked_at + self._look_s

    def _deaf_since(self, last: float, now: float) -> float:
        deaf_at = self._heard_at + self._deaf_after_s
        self.deaf = now >= deaf_at
        began = max(last, deaf_at)
        deaf_s = min(now - began, self._deaf_max_s - self._deaf_s)
        if deaf_s <= 0.0:
            return 0.0
        self._deaf_s += deaf_s
        return deaf_s
