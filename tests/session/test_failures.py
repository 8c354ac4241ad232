"""Refusals on the wire become the errors that callers know."""

from __future__ import annotations

import pytest

from dyno.errors import (
    ConflictError,
    DynoError,
    InvalidRequest,
    Overloaded,
    QuorumNotMet,
    RequestTimeout,
    StorageFailed,
)
from dyno.session import failures
from dyno.session.results import Origin


@pytest.fixture
def call(world):
    return world.put()


@pytest.fixture
def origin(world):
    return Origin(world.CLUSTER, "carts", b"alice")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid", InvalidRequest),
        ("conflict", ConflictError),
        ("quorum", QuorumNotMet),
        ("overloaded", Overloaded),
        ("storage", StorageFailed),
        ("ring", RequestTimeout),
        ("a code of the future", DynoError),
    ],
)
def test_every_code_has_its_error_and_keeps_the_nodes_words(world, call, origin, code, kind):
    error = failures.error_of(world.failed(call, code), call, origin)
    assert type(error) is kind
    assert f"the reason for {code}" in str(error)


def test_a_quorum_that_was_not_met_carries_its_facts(world, call, origin):
    failed = world.failed(call, "quorum", needed=3, nodes="n1,n3", indeterminate=True)
    error = failures.error_of(failed, call, origin)
    assert (error.needed, error.answered, error.nodes, error.indeterminate) == (3, 2, ("n1", "n3"), True)


def test_an_overload_says_when_to_come_again(world, call, origin):
    assert (
        failures.error_of(world.failed(call, "overloaded", retry_after_ms=250), call, origin).retry_after
        == 0.25
    )


def test_a_conflict_carries_what_is_there(world, call, origin):
    failed = world.failed(call, "conflict", record=world.stored("mine", "theirs").pack())
    error = failures.error_of(failed, call, origin)
    assert error.siblings == ["mine", "theirs"]
    assert error.context != b""
    nothing = failures.error_of(world.failed(call, "conflict"), call, origin)
    assert (nothing.siblings, nothing.context) == ([], b"")


def test_a_conflict_with_a_damaged_record_is_a_storage_failure(world, call, origin):
    assert isinstance(
        failures.error_of(world.failed(call, "conflict", record=b"x"), call, origin), StorageFailed
    )


def test_a_conflict_with_a_record_of_another_kind_is_an_invalid_request(world, call, origin):
    packed = bytearray(world.stored("theirs").pack())
    packed[1] = 9
    error = failures.error_of(world.failed(call, "conflict", record=bytes(packed)), call, origin)
    assert isinstance(error, InvalidRequest)


def test_a_lost_write_may_have_been_done(call):
    error = failures.lost(call, "n1:7101", "reset")
    assert isinstance(error, QuorumNotMet)
    assert (error.needed, error.answered, error.nodes, error.indeterminate) == (2, 0, (), True)


def test_a_doubt_makes_everything_indeterminate_but_what_is_invalid(call):
    timeout = failures.timeout(call, "too late", indeterminate=False)
    assert failures.doubted(call, timeout) is timeout
    assert timeout.indeterminate
    shortage = QuorumNotMet("one is dead", needed=3, answered=0, nodes=(), indeterminate=False)
    assert failures.doubted(call, shortage) is shortage
    assert shortage.indeterminate
    invalid = InvalidRequest("no")
    assert failures.doubted(call, invalid) is invalid
    lost = failures.doubted(call, failures.unreachable("n1: refused"))
    assert isinstance(lost, RequestTimeout)
    assert lost.indeterminate
    assert "sent once and never answered" in str(lost)
