"""Where the result of an operation goes."""

from __future__ import annotations

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.sink import Failure, LinkSink, invalid
from dyno.wire.messages import Done, Failed, Found


def test_results_go_to_the_link_under_the_askers_number() -> None:
    out = Outbox()
    sink = LinkSink(7, 42)
    sink.found(b"record", ["n1", "n2"], 0.0, out)
    sink.done(b"context", ["n3"], out)
    assert out.replies == [(7, Found(42, b"record", "n1,n2", "")), (7, Done(42, b"context", "n3", ""))]


def test_a_failure_carries_every_fact() -> None:
    out = Outbox()
    failure = Failure(
        Code.QUORUM, "text", needed=2, nodes=("n1", "n2"), indeterminate=True, retry_after_s=0.25, record=b"r"
    )
    LinkSink(7, 42).failed(failure, out)
    assert out.replies == [(7, Failed(42, "quorum", "text", 2, "n1,n2", True, 250, b"r"))]
    assert type(out.replies[0][1].code) is str  # type: ignore[union-attr]  # exactly a str, for the codec


def test_an_invalid_request_did_nothing() -> None:
    assert invalid("why") == Failure(Code.INVALID, "why", 0, (), False, 0.0, b"")
