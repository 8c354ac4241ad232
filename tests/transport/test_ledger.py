"""What all links hold together."""

from __future__ import annotations

from dyno.transport.ledger import LITTLE_BYTES, Ledger

KIB = 1 << 10


class Holder:
    """As a link does, it tells that it holds nothing any more when it is closed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.closed = ""

    def hold(self, kib: int) -> bool:
        return self.ledger.hold(self, kib * KIB)

    def close(self, reason: str) -> None:
        self.closed = reason
        self.ledger.hold(self, 0)


def test_the_sum_follows_what_everybody_holds() -> None:
    ledger = Ledger()
    one, other = Holder(ledger), Holder(ledger)
    assert one.hold(100)
    assert other.hold(50)
    assert one.hold(20)
    assert ledger.total == 70 * KIB
    assert not one.hold(0)
    assert ledger.total == 50 * KIB


def test_little_is_not_on_the_books() -> None:
    ledger = Ledger(1)
    holder = Holder(ledger)
    assert not ledger.hold(holder, LITTLE_BYTES)
    assert ledger.total == 0


def test_past_the_bound_the_heaviest_is_closed_whoever_was_the_last_to_grow() -> None:
    ledger = Ledger(1000 * KIB)
    light, heavy, middle = Holder(ledger), Holder(ledger), Holder(ledger)
    light.hold(100)
    heavy.hold(600)
    assert middle.hold(300)
    assert not heavy.closed
    assert light.hold(101)
    assert heavy.closed == "all links together hold too much that is sent or read slowly"
    assert not light.closed
    assert not middle.closed
    assert ledger.total == 401 * KIB


def test_the_one_that_grows_may_be_the_heaviest() -> None:
    ledger = Ledger(1000 * KIB)
    light, heavy = Holder(ledger), Holder(ledger)
    light.hold(400)
    assert not heavy.hold(601)
    assert heavy.closed
    assert ledger.total == 400 * KIB
