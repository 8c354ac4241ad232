"""Clients of nodes that can do so much and no more: that much is done, and retries are no second load."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from dyno.errors import Overloaded, RequestTimeout
from dyno.hedging.budget import FLOOR_PER_S, TOKENS_AT_START

TURN_S = 0.005
PER_SECOND = 200  # of each of three nodes
QUEUE_MAX = 20


class Service:
    """Clients, and the three nodes that serve them all. Each node does PER_SECOND requests a second, holds
    QUEUE_MAX, and refuses the rest at once."""

    def __init__(self, a_world: Callable[..., Any], clients: int, kind: str) -> None:
        self.worlds = [a_world().settle() for _ in range(clients)]
        for number, world in enumerate(self.worlds):
            world.session.random.seed(number)
        self.kind = kind
        self.now = 100.0
        self.sent = self.begun = self.answered = 0
        self.errors: list[Exception] = []
        self.under_way = [0] * clients
        self._queues: dict[str, deque[Any]] = {f"n{number}:7101": deque() for number in (1, 2, 3)}
        self._turn = 0

    def run(self, seconds: float, begin: Callable[[int], int]) -> float:
        """begin: how many calls a client begins in a turn. Gives the answers per second."""
        before, end = self.answered, self.now + seconds
        while self.now < end:
            self.now += TURN_S
            self._turn += 1
            for world in self.worlds:
                world.now = self.now
            self._serve()
            for number, world in enumerate(self.worlds):
                for _ in range(begin(number)):
                    self._begin(number, world)
                self._receive(world)
                if world.session.deadline() <= self.now:
                    world.session.tick(self.now, world.out)
                self._end(number, world)
        return (self.answered - before) / seconds

    def _serve(self) -> None:
        for address, queue in self._queues.items():
            for _ in range(min(len(queue), round(PER_SECOND * TURN_S))):
                world, message = queue.popleft()
                world.hear(address, world.found(message) if self.kind == "get" else world.done(message))

    def _begin(self, number: int, world: Any) -> None:
        self.begun += 1
        self.under_way[number] += 1
        getattr(world, self.kind)(f"key {self.begun % 97}", timeout=2.0)

    def _receive(self, world: Any) -> None:
        for address, message in world.requests():
            self.sent += 1
            if len(self._queues[address]) < QUEUE_MAX:
                self._queues[address].append((world, message))
            else:
                world.hear(address, world.failed(message, "overloaded", retry_after_ms=100))

    def _end(self, number: int, world: Any) -> None:
        for call in world.finished():
            self.under_way[number] -= 1
            if call.error is None:
                self.answered += 1
            else:
                assert isinstance(call.error, Overloaded | RequestTimeout)
                self.errors.append(call.error)


@pytest.mark.parametrize("kind", ["get", "put"])
def test_ten_times_the_load_that_can_be_served(a_world: Callable[..., Any], kind: str) -> None:
    service = Service(a_world, 10, kind)
    per_turn = 10 * 3 * PER_SECOND * TURN_S / 10
    per_second = service.run(5, lambda _: int(per_turn))
    assert per_second >= 0.9 * 3 * PER_SECOND
    assert service.sent <= 1.15 * service.begun + 10 * (TOKENS_AT_START + FLOOR_PER_S * 5)


@pytest.mark.parametrize("kind", ["get", "put"])
def test_more_callers_than_can_be_served_at_once(a_world: Callable[..., Any], kind: str) -> None:
    service = Service(a_world, 4, kind)
    service.run(2, lambda number: 50 - service.under_way[number])
    per_second = service.run(4, lambda number: 50 - service.under_way[number])
    assert per_second >= 0.9 * 3 * PER_SECOND
    assert len(service.errors) < 0.2 * service.begun
    assert service.sent <= 1.5 * service.begun + 4 * (TOKENS_AT_START + FLOOR_PER_S * 6)
