"""Whom a write falls back on: the next fallback that can be asked, or this node itself."""

from __future__ import annotations

from dyno.protocol.outbox import Outbox
from dyno.protocol.spares import Spares
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, HandOver, Store, StoreHint
from tests.protocol.coordinator_harness import KEY, At
from tests.protocol.hints_harness import a_record


class Falling:
    """A write at node a of a key that others own or not, in a cluster of five."""

    def __init__(self, **config: float) -> None:
        self.at = At(names="abcde", **config)
        self.plan = self.at.ring.plan("bucket", KEY)
        self.fallbacks = [name for name in self.at.ring.fallbacks(self.plan.slot) if name != "a"]
        self.spares: Spares = self.at.coordinator.writes.replication._spares
        self.store = Store(7, self.at.ring.fingerprint, self.plan.slot, KEY, a_record(b"value"))
        self.target = next(name for name in self.plan.owners if name != "a")
        self.told: list[int] = []

    def ask_next(self, *used: str) -> str | None:
        return self.spares.ask_next(self.store, self.target, used, self.at.out, needed=True)

    def keep(self, *, needed: bool = True) -> int | None:
        return self.spares.keep(self.store, self.target, self._tell, needed=needed)

    def _tell(self, status: int, now: float, out: Outbox) -> None:
        self.told.append(status)


def test_fallbacks_are_asked_in_the_order_of_the_list_and_each_once() -> None:
    falling = Falling()
    first = falling.fallbacks[0]
    assert falling.ask_next() == first
    ((name, hint),) = falling.at.sent(StoreHint)
    assert name == first
    id, ring, slot, key, record = falling.store
    assert hint == StoreHint(id, ring, slot, key, record, falling.target, 0, True)
    assert falling.ask_next(*falling.fallbacks) is None
    assert falling.at.out.sends == []


def test_the_dead_and_those_without_a_link_are_passed_over() -> None:
    falling = Falling()
    first, *others = falling.fallbacks
    falling.at.cut(first)
    assert falling.ask_next() == (others[0] if others else None)
    falling.at.members.dead = others
    assert falling.ask_next() is None
    assert not others or not falling.spares.is_live(others[0])


def test_a_hint_is_stamped_with_the_last_round_of_reaping_that_was_agreed_to_here() -> None:
    falling = Falling()
    falling.spares._generations.agree(falling.store.slot[:3], 4)
    falling.ask_next()
    ((_, hint),) = falling.at.sent(StoreHint)
    assert isinstance(hint, StoreHint)
    assert hint.generation == 4
    falling.keep()
    falling.at.commit()
    ((_, handed),) = falling.at.sent(HandOver)
    assert isinstance(handed, HandOver)
    assert handed.generation == 4


def test_what_is_kept_here_is_told_of_when_it_is_on_the_disk_and_handed_over_when_it_can_be() -> None:
    falling = Falling()
    assert falling.keep() is None
    assert falling.told == []
    falling.at.commit()
    assert falling.told == [STATUS_OK]
    assert [name for name, _ in falling.at.sent(HandOver)] == [falling.target]
    assert falling.keep() == STATUS_OK, "it is there already"


def test_what_cannot_be_kept_here_is_said_at_once() -> None:
    falling = Falling(hints_bytes_max=1)
    assert falling.keep(needed=False) == STATUS_OVERLOADED
    assert falling.told == []


def test_others_are_told_of_the_commit_with_a_hint_here_that_a_write_counts_on() -> None:
    falling = Falling()
    falling.keep(needed=False)
    batch = falling.at.replica._gathering
    assert not batch.own
    falling.spares.keep(
        falling.store._replace(slot=falling.store.slot[:-1] + b"x"), "b", falling._tell, needed=True
    )
    assert batch.own
