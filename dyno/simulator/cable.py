"""One direction of the way between two machines: how long it takes, what it loses, and whether it is cut.

In: a quality, and sizes of what is sent. Out: seconds until it is there. A connection does as TCP does: a
packet that is lost is sent again after 0.2 s, 0.4 s, 0.8 s, …, so loss shows as latency, and at times as a
connection that gives up. A datagram that is lost is lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dyno.simulator.end import End

if TYPE_CHECKING:
    from random import Random


# Not Final: compiled, a constant pair of floats reads as if it were not set (docs/design/compiled.md).
LATENCY_S: tuple[float, float] = (0.0002, 0.001)
BYTES_PER_S: Final = 125_000_000.0
STALL_MAX_S: Final = 15.0  # after which a connection gives up what nobody acknowledges
STRAY_S: Final = 1.0  # at most; longer than an exchange of datagrams takes, so that later ones overtake it

_RETRANSMIT_S: Final = 0.2  # TCP's least on Linux
_REDIAL_S: Final = 1.0  # until the first packet of a connection is sent again
_QUEUE_S: Final = 0.5  # of datagrams before a narrow cable; what would wait longer is dropped there


class Quality(NamedTuple):
    """latency_s: least and most seconds of a packet's way. spikes: the share of packets that take longer, by
    spike_s on average. loss, duplicates, strays: shares of packets that are lost, of datagrams that arrive
    twice, and of datagrams that go astray for a while and arrive after later ones. bytes_per_s: how much gets
    through; below 125 MB/s everything queues for it, at that speed only large messages take their time."""

    latency_s: tuple[float, float] = LATENCY_S
    spikes: float = 0.0
    spike_s: float = 0.0
    loss: float = 0.0
    duplicates: float = 0.0
    strays: float = 0.0
    bytes_per_s: float = BYTES_PER_S


class Waiting(NamedTuple):
    """Something that a connection could not send yet, with its size in bytes."""

    send: Callable[[End, Any, int], None]
    end: End
    what: Any
    size: int


class Cable:
    """held: what connections would carry, while it is cut; None while it is whole. queue: what stands in line
    for a narrow cable. lines: changes whenever that line does not go on as planned. clear: whether what is
    sent leaves at once."""

    __slots__ = (
        "_held",
        "_least",
        "_plain",
        "_quality",
        "_random",
        "_roll",
        "_span",
        "clear",
        "lines",
        "narrow",
        "queue",
    )

    def __init__(self, quality: Quality, random: Random) -> None:
        self.queue: deque[Waiting] = deque()
        self.lines = 0
        self._held: list[Waiting] | None = None
        self._random = random
        self._roll = random.random
        self.quality = quality

    @property
    def quality(self) -> Quality:
        return self._quality

    @quality.setter
    def quality(self, quality: Quality) -> None:
        self._quality = quality
        self._least, most = quality.latency_s
        self._span = most - self._least
        self._plain = not (quality.spikes or quality.loss)
        self.narrow = quality.bytes_per_s < BYTES_PER_S
        self.clear = self._held is None and not self.narrow

    @property
    def held(self) -> list[Waiting] | None:
        return self._held

    @held.setter
    def held(self, held: list[Waiting] | None) -> None:
        self._held = held
        self.clear = held is None and not self.narrow

    # ── connections ──

    def frame_s(self) -> float:
        """Until a frame of a connection that left is there; infinite when it never gets through."""
        seconds = self._least + self._span * self._roll()
        return seconds if self._plain else seconds + self._spike_s() + self._again_s(_RETRANSMIT_S)

    def transmission_s(self, size: int) -> float:
        """Until the last byte has left."""
        return size / self._quality.bytes_per_s

    def dial_s(self) -> float:
        """Until the first packet of a connection is there; infinite when it never gets through."""
        seconds = self._least + self._span * self._roll()
        return seconds if self._plain else seconds + self._spike_s() + self._again_s(_REDIAL_S)

    # ── datagrams ──

    def datagram_s(self, size: int) -> list[float]:
        """Until it is there, once for every time that it arrives."""
        quality = self._quality
        seconds = self._least + self._span * self._roll()
        if self._plain and not (quality.duplicates or quality.strays or self.narrow):
            return [seconds]
        if quality.loss and self._roll() < quality.loss:
            return []
        if self.narrow:
            ahead_s = self.transmission_s(sum(waiting.size for waiting in self.queue))
            if ahead_s > _QUEUE_S:
                return []
            seconds += ahead_s + self.transmission_s(size)
        arrivals = [seconds + self._spike_s() + self._stray_s()]
        if quality.duplicates and self._roll() < quality.duplicates:
            arrivals.append(seconds + self._spike_s() + self._stray_s())
        return arrivals

    # ── inside ──

    def _spike_s(self) -> float:
        quality = self._quality
        if quality.spikes and self._roll() < quality.spikes:
            return self._random.expovariate(1.0 / quality.spike_s)
        return 0.0

    def _stray_s(self) -> float:
        strays = self._quality.strays
        return STRAY_S * self._roll() if strays and self._roll() < strays else 0.0

    def _again_s(self, pause: float) -> float:
        """A packet that is lost is sent again after a pause that doubles."""
        loss = self._quality.loss
        seconds = 0.0
        while loss and self._roll() < loss:
            seconds += pause
            pause *= 2
            if seconds > STALL_MAX_S:
                return math.inf
        return seconds
