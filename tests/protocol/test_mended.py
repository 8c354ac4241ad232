"""Numbers of what was mended, all together and since a moment."""

from __future__ import annotations

from dyno.protocol.mended import Mended
from dyno.wire.repairs import Mends


def test_what_was_mended_since_a_moment() -> None:
    mended = Mended()
    mended.read_repairs, mended.handed_over, mended.received = 1, 2, 3
    mended.sent, mended.healed, mended.compared, mended.merged = 4, 5, 6, 7
    before = mended.since(Mends(), aside=9)
    assert before == Mends(1, 2, 3, 4, 5, 6, 7, 9)
    mended.sent += 10
    assert mended.since(before, aside=8) == Mends(sent=10, aside=8)
