"""What a machine wants to happen."""

from __future__ import annotations

import pytest

from dyno.protocol.outbox import Outbox
from dyno.wire.messages import Ack, Read, Stored


def test_a_new_outbox_wants_nothing() -> None:
    assert not Outbox()


@pytest.mark.parametrize(
    ("into", "what"),
    [
        ("sends", ("h1:1", Read(1, 2, b"slot"))),
        ("replies", (1, Stored(1, 0))),
        ("datagrams", ("h1:1", Ack(1, "n1", b"start", b""))),
        ("connect", "h1:1"),
        ("disconnect", "h1:1"),
        ("events", ("info", "text")),
    ],
)
def test_whatever_the_runner_must_carry_out_counts(into: str, what: object) -> None:
    out = Outbox()
    getattr(out, into).append(what)
    assert out


def test_what_waits_for_the_disk_is_not_the_runners_yet() -> None:
    out = Outbox()
    out.meta["stamp"] = b"1"
    out.durable_sends.append(("h1:1", Read(1, 2, b"slot")))
    out.durable_replies.append((1, Stored(1, 0)))
    assert not out
