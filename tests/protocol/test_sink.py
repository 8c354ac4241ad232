"""Where the result of an operation goes."""

from __future__ import annotations

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.sink import Doubtful, Ending, Failure, LinkSink, invalid, overloaded
from dyno.wire.messages import Done, Failed, Found, Listed


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


def test_an_overloaded_one_did_nothing_and_says_when_to_come_again() -> None:
    assert overloaded("why", 0.25) == Failure(Code.OVERLOADED, "why", 0, (), False, 0.25, b"")


def test_a_page_of_keys_goes_to_the_link_under_the_askers_number() -> None:
    out = Outbox()
    LinkSink(7, 42).listed(b"keys", b"cursor", out)
    assert out.replies == [(7, Listed(42, b"keys", b"cursor"))]


def test_the_end_of_a_listing_is_told_to_two() -> None:
    out = Outbox()
    ended: list[int] = []
    Ending(LinkSink(7, 42), lambda: ended.append(1)).listed(b"keys", b"cursor", out)
    Ending(LinkSink(7, 43), lambda: ended.append(2)).failed(invalid("why"), out)
    assert ended == [1, 2]
    assert [type(answer) for _, answer in out.replies] == [Listed, Failed]


def test_what_fails_where_others_may_have_done_it_is_indeterminate_unless_nobody_could() -> None:
    out = Outbox()
    sink = Doubtful(LinkSink(7, 42))
    sink.failed(Failure(Code.RING, "why"), out)
    sink.failed(invalid("why"), out)
    sink.failed(Failure(Code.CONFLICT, "why"), out)
    assert [answer.indeterminate for _, answer in out.replies] == [True, False, False]  # type: ignore[union-attr]


def test_what_succeeds_all_the_same_is_told_as_it_is() -> None:
    out = Outbox()
    sink = Doubtful(LinkSink(7, 42))
    sink.found(b"record", ["n1"], 0.0, out, ["n1"])
    sink.done(b"context", ["n3"], out, ["n3"])
    sink.listed(b"keys", b"cursor", out)
    assert [answer for _, answer in out.replies] == [
        Found(42, b"record", "n1", "n1"),
        Done(42, b"context", "n3", "n3"),
        Listed(42, b"keys", b"cursor"),
    ]
