"""What a node remembers."""

from __future__ import annotations

import pytest

from dyno.protocol.identity import (
    LOST_ALL,
    Remembered,
    remember,
    remember_loss,
    remember_renewal,
    remember_stamp,
    remembered,
)
from dyno.protocol.outbox import Outbox
from dyno.wire.flat import ProtocolError
from dyno.wire.members import pack_members
from tests.protocol.membership_harness import a_member


def test_a_new_directory_remembers_nothing():
    fresh = remembered({}.get, members_max=10)
    assert fresh == Remembered(b"", 0, 0, [])
    assert fresh.own("n1") is None


def test_what_was_kept_comes_back():
    out = Outbox()
    members = [a_member("n1", stamp=7), a_member("n2")]
    remember(cluster=b"c" * 16, partitions=1024, stamp=7, members=pack_members(members), out=out)
    kept = remembered(out.meta.get, members_max=10)
    assert kept == Remembered(b"c" * 16, 1024, 7, members)
    assert kept.own("n1") == members[0]
    assert kept.own("n2") is None


def test_a_stamp_is_kept_before_there_is_a_cluster():
    out = Outbox()
    remember_stamp(3, out)
    assert remembered(out.meta.get, members_max=10) == Remembered(b"", 0, 3, [])


def test_a_damaged_table_is_said_to_be_one():
    with pytest.raises(ProtocolError):
        remembered({"members": b"\xff"}.get, members_max=10)


def test_a_loss_and_a_new_id_are_kept_together():
    out = Outbox()
    remember_loss(out)
    assert out.meta == {"recovering": LOST_ALL}
    remember_renewal(directory=b"new", former=b"old", since=7, out=out)
    assert out.meta == {
        "recovering": LOST_ALL,
        "directory": b"new",
        "former": b"old",
        "since": (7).to_bytes(8, "big"),
    }
