"""Changes of a ring: what they make of an entry, twice too, and what they refuse."""

from __future__ import annotations

import pytest

from dyno.buckets.properties import DEFAULTS, Properties
from dyno.ringlog.changes import (
    ABORTED,
    DONE,
    LEFT_KEPT,
    Advance,
    Become,
    Begin,
    Change,
    Create,
    Join,
    NotPossible,
    Renew,
    Reweigh,
    follow,
    force,
    judge,
)
from dyno.ringlog.entry import COPYING, SEALED, Entry, Move, digest, pack, unpack
from dyno.wire.members import JOINING, LEAVING, LEFT, NORMAL
from tests.ringlog.ring_makers import a_row, an_entry, an_id

A, B, C, D = (an_id(name) for name in "abcd")
JOIN = Join("d", D, an_id("seat d"), "z", 1.0)
MOVE = Move(7, 3, A, D, COPYING, 3)


def made(base: Entry, *changes: Change) -> Entry:
    """The entry that follows; the changes are fulfilled in it, and not before."""
    assert not judge(base, changes)
    entry = follow(base, [changes])
    assert entry is not None
    assert judge(entry, changes)
    assert follow(entry, [changes]) is None
    assert unpack(pack(entry)) == entry
    assert (entry.number, entry.before, entry.forced) == (base.number + 1, digest(pack(base)), False)
    return entry


def refused(base: Entry, *changes: Change) -> str:
    with pytest.raises(NotPossible) as caught:
        judge(base, changes)
    assert follow(base, [changes]) is None
    return str(caught.value)


def moving() -> Entry:
    """d is joining, and gets a seat of a."""
    return made(made(an_entry(), JOIN), Begin(((7, 3, A, D),)))


# ── members ──


def test_a_member_comes_in_and_goes() -> None:
    entry = made(an_entry(), JOIN)
    assert entry.row("d") == a_row("d", JOINING, since=2)
    entry = made(entry, Become("d", D, NORMAL))
    assert entry.row("d") == a_row("d", NORMAL, since=3)
    entry = made(entry, Become("d", D, LEAVING))
    entry = made(entry, Become("d", D, LEFT))
    assert entry.row("d") == a_row("d", LEFT, since=5)
    entry = made(entry, JOIN)
    assert entry.row("d") == a_row("d", JOINING, since=6)


def test_one_comes_in_in_the_place_of_another() -> None:
    entry = made(an_entry(), Join("d", D, an_id("own"), "elsewhere", 5.0, replaces="a"))
    assert entry.row("a") == a_row("a", LEAVING, since=2)
    assert entry.row("d") == a_row("d", JOINING, since=2, replaces="a")._replace(seat=an_id("seat a"))
    again = Join("e", an_id("e"), an_id("own"), "", 1.0, replaces="a")
    assert "being replaced already" in refused(entry, again)
    put_out = made(entry, Become("d", D, LEFT))
    assert made(put_out, again).row("a") == a_row("a", LEAVING, since=2)


def test_who_cannot_come_in() -> None:
    base = an_entry()
    assert "another directory" in refused(base, JOIN._replace(name="a"))
    assert "b has the directory" in refused(base, JOIN._replace(directory=B))
    assert "seat of d is taken" in refused(base, JOIN._replace(seat=an_id("seat a")))
    assert "x is no member" in refused(base, JOIN._replace(replaces="x"))


def test_a_name_comes_back_when_what_moves_away_from_it_is_over() -> None:
    entry = made(moving(), Become("a", A, LEFT))
    assert [move.predecessor for move in entry.moves] == [A]
    back = Join("a", an_id("new"), an_id("seat a"), "z", 1.0)
    assert "still moving away" in refused(entry, back)
    entry = made(entry, Advance(((7, 3, D, 3),), DONE))
    assert made(entry, back).row("a") == a_row("a", JOINING, since=6, directory="new")


def test_states_follow_each_other() -> None:
    base = an_entry(a_row("a"), a_row("b"), a_row("c", LEFT), a_row("d", JOINING))
    assert "c is left and cannot become normal" in refused(base, Become("c", C, NORMAL))
    assert "d is joining and cannot become leaving" in refused(base, Become("d", D, LEAVING))
    assert "x is not in the ring" in refused(base, Become("x", A, LEFT))
    assert "another directory" in refused(base, Become("a", B, LEFT))
    assert made(base, Become("a", A, LEAVING), Become("d", D, NORMAL)).voters() == {"a": A, "b": B, "d": D}


def test_somebody_has_to_decide() -> None:
    base = an_entry(a_row("a"), a_row("b", JOINING))
    assert "the last member" in refused(base, Become("a", A, LEFT))


def test_who_leaves_gets_no_seats() -> None:
    assert made(moving(), Become("d", D, LEFT)).moves == ()


def test_those_that_left_long_ago_are_forgotten() -> None:
    gone = [a_row(f"g{number:03}", LEFT, since=number + 1) for number in range(LEFT_KEPT)]
    entry = made(an_entry(a_row("a"), a_row("b"), *gone, number=500), Become("b", B, LEFT))
    assert len(entry.rows) == 1 + LEFT_KEPT
    assert entry.row("g000") is None
    assert entry.row("b") is not None


def test_another_directory_of_the_same_member() -> None:
    new = an_id("new")
    entry = made(moving(), Renew("a", A, new))
    assert entry.row("a") == a_row("a", directory="new")
    assert entry.moves == (Move(7, 3, new, D, COPYING, 4),)
    two = made(moving(), Begin(((8, 3, B, C),)))
    assert made(two, Renew("d", D, new)).moves == (Move(7, 3, A, new, COPYING, 5), two.moves[1])


def test_who_cannot_have_another_directory() -> None:
    base = an_entry(a_row("a"), a_row("b"), a_row("c", LEFT))
    assert "another member has" in refused(base, Renew("a", A, B))
    assert "has left" in refused(base, Renew("c", C, D))
    assert "not in the ring" in refused(base, Renew("a", C, D))


def test_zones_and_weights() -> None:
    row = made(an_entry(), Reweigh("a", A, "there", 2.0)).row("a")
    assert row is not None
    assert (row.zone, row.weight) == ("there", 2.0)
    assert "another directory" in refused(an_entry(), Reweigh("a", B, "there", 2.0))


# ── seats ──


def test_a_seat_moves() -> None:
    entry = moving()
    assert entry.moves == (MOVE,)
    entry = made(entry, Advance(((7, 3, D, 3),), SEALED))
    assert entry.moves == (MOVE._replace(phase=SEALED),)
    assert made(entry, Advance(((7, 3, D, 3),), DONE)).moves == ()


@pytest.mark.parametrize("phase", [DONE, ABORTED])
def test_a_seat_that_is_not_sealed_ends_moving_too(phase: int) -> None:
    assert made(moving(), Advance(((7, 3, D, 3),), phase)).moves == ()


def test_a_move_that_is_over_is_not_moved_again_by_late_wishes() -> None:
    entry = moving()
    assert judge(entry, [Advance(((7, 3, D, 2),), DONE)]), "an earlier move of that seat was meant"
    assert "not moving any more" in refused(entry, Advance(((7, 3, D, 2),), SEALED))
    assert "not moving any more" in refused(entry, Advance(((9, 3, D, 3),), SEALED))


def test_phases_follow_each_other() -> None:
    sealed = made(moving(), Advance(((7, 3, D, 3),), SEALED))
    assert "sealed and cannot become copying" in refused(sealed, Advance(((7, 3, D, 3),), COPYING))


def test_seats_that_cannot_move() -> None:
    entry = moving()
    assert "moving already" in refused(entry, Begin(((7, 3, A, B),)))
    assert "moving already" in refused(entry, Begin(((7, 3, B, D),)))
    assert "not there" in refused(entry, Begin(((8, 3, A, an_id("x")),)))
    assert "not there" in refused(entry, Begin(((8, 3, an_id("x"), D),)))
    assert "not there" in refused(entry, Begin(((8, 3, A, A),)))
    assert "moving already" in refused(entry, Begin(((8, 3, A, D), (8, 3, A, B)))), "all of them or none"


# ── buckets ──


def test_buckets() -> None:
    wide = Properties(5, 1, 1, 0)
    entry = made(made(an_entry(), Create("w", wide)), Create("b", DEFAULTS))
    assert entry.buckets == (("b", DEFAULTS), ("w", wide))
    assert "was created with n=5" in refused(entry, Create("w", DEFAULTS))


# ── several ──


def test_several_wishes_share_an_entry_and_each_is_whole() -> None:
    half = (Create("x", DEFAULTS), Become("x", A, LEFT))
    entry = follow(an_entry(), [(JOIN,), half, (Create("y", DEFAULTS),)])
    assert entry is not None
    assert entry.row("d") is not None
    assert [name for name, _ in entry.buckets] == ["y"]


# ── force ──


def test_by_force_the_lost_have_left() -> None:
    base = moving()
    entry = force(base, 1 << 60, [B, D, an_id("x")], name="a", directory=A)
    assert unpack(pack(entry)) == entry
    assert (entry.forced, entry.before, entry.moves) == (True, digest(pack(base)), ())
    assert entry.voters() == {"a": A, "c": C}
    assert entry.row("b") == a_row("b", LEFT, since=1 << 60)


def test_whoever_forces_it_is_in_the_ring_afterwards() -> None:
    new = an_id("new")
    assert force(an_entry(), 9, [A, B, C], name="a", directory=new).voters() == {"a": new}
    assert force(an_entry(), 9, [A, B, C], name="a", directory=A).voters() == {"a": A}
    base = an_entry(a_row("a", LEFT), a_row("b"))
    assert force(base, 9, [B], name="a", directory=A).voters() == {"a": A}
