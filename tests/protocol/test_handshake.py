"""Who may talk to whom."""

from __future__ import annotations

import pytest

from dyno.protocol.handshake import CLIENT, PEER, PROTOCOL_LOW, Self, hello_of, judge, understood
from dyno.wire.messages import PROTOCOL_VERSION, Hello

ME = Self("n1", b"d" * 16, b"s" * 8, b"c" * 16, 1024)
NEWCOMER = Self("n2", b"e" * 16, b"t" * 8, b"", 0)
USER = Hello(PROTOCOL_LOW, PROTOCOL_VERSION, CLIENT, b"", 0, "", b"", b"", "")


def refusal(me: Self, hello: Hello) -> tuple[str, str]:
    refuse = judge(me, hello)
    assert refuse is not None
    return refuse


def test_a_node_says_what_it_is() -> None:
    assert hello_of(ME) == Hello(
        PROTOCOL_LOW, PROTOCOL_VERSION, PEER, b"c" * 16, 1024, "n1", b"d" * 16, b"s" * 8, "ring_log"
    )


def test_of_what_the_other_side_has_only_what_is_known_here_counts() -> None:
    hello = hello_of(ME)
    assert understood(hello) == ("ring_log",)
    assert understood(hello._replace(capabilities="later,ring_log,ring")) == ("ring_log",)
    assert understood(hello._replace(capabilities="ring,ring_log2")) == ()
    assert understood(USER) == ()


def test_a_node_says_of_which_rounds_it_knows() -> None:
    assert hello_of(ME._replace(commit=7, rounds=9), seen=5)[-3:] == (7, 5, 9)


def test_members_of_one_cluster_are_welcome_to_each_other() -> None:
    assert judge(ME, hello_of(ME._replace(name="n2"))) is None


def test_a_node_without_a_cluster_is_welcome_and_welcomes() -> None:
    assert judge(ME, hello_of(NEWCOMER)) is None
    assert judge(NEWCOMER, hello_of(ME)) is None


def test_clients_are_welcome_whether_they_know_the_cluster_or_not() -> None:
    assert judge(ME, USER) is None
    assert judge(ME, USER._replace(cluster=ME.cluster)) is None


def test_a_client_of_a_node_without_a_cluster_has_to_wait() -> None:
    assert refusal(NEWCOMER, USER) == ("joining", "n2 has not joined a cluster yet")


@pytest.mark.parametrize("role", [PEER, CLIENT])
def test_another_cluster_is_refused_with_both_names(role: str) -> None:
    code, text = refusal(ME, USER._replace(role=role, cluster=b"x" * 16, partitions=1024))
    assert code == "cluster"
    assert ME.cluster.hex() in text
    assert (b"x" * 16).hex() in text


def test_another_number_of_partitions_is_refused() -> None:
    code, text = refusal(ME, hello_of(ME._replace(name="n2", partitions=64)))
    assert (code, text) == ("partitions", "n1 belongs to a cluster of 1024 partitions, not 64")


@pytest.mark.parametrize(
    ("low", "high"), [(PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 2), (0, PROTOCOL_LOW - 1)]
)
def test_versions_that_do_not_meet_are_refused(low: int, high: int) -> None:
    code, text = refusal(ME, USER._replace(protocol_low=low, protocol_high=high))
    assert code == "protocol"
    assert f"not {low} to {high}" in text


def test_a_newer_node_that_still_talks_our_version_is_welcome() -> None:
    assert judge(ME, USER._replace(protocol_high=PROTOCOL_VERSION + 5)) is None


def test_an_unknown_role_is_refused() -> None:
    assert refusal(ME, USER._replace(role="king")) == ("protocol", "unknown role 'king'")
