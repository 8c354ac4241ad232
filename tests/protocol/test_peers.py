"""Who can be asked, and over which link."""

from __future__ import annotations

from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Able, Peers
from dyno.wire.messages import Read

READ = Read(1, 2, b"slot")


def asked(peers: Peers, name: str) -> str | None:
    """The address that a message to this name goes to, if it goes."""
    out = Outbox()
    sent = peers.send(name, READ, out)
    assert sent == bool(out.sends)
    return out.sends[0][0] if sent else None


def test_a_node_can_be_asked_while_the_link_to_its_place_is_up() -> None:
    peers = Peers()
    peers.place({"n2": "h2:1"})
    assert asked(peers, "n2") is None
    assert not peers.can_ask("n2")
    assert peers.up("n2", "h2:1")
    assert asked(peers, "n2") == "h2:1"
    assert peers.can_ask("n2")
    assert peers.name_at("h2:1") == "n2"
    assert peers.down("h2:1") == "n2"
    assert asked(peers, "n2") is None
    assert not peers.can_ask("n2")
    assert peers.name_at("h2:1") is None


def test_a_link_that_was_never_up_goes_down_unnoticed() -> None:
    peers = Peers()
    peers.place({"n2": "h2:1"})
    assert peers.down("h2:1") is None


def test_a_claimant_of_a_members_name_is_not_taken_for_the_member() -> None:
    peers = Peers()
    peers.place({"n2": "h2:1"})
    peers.up("n2", "h2:1")
    assert not peers.up("n2", "elsewhere:1")
    assert asked(peers, "n2") == "h2:1"
    assert peers.name_at("elsewhere:1") is None
    assert peers.down("elsewhere:1") is None
    assert asked(peers, "n2") == "h2:1"


def test_another_node_at_a_members_place_is_not_the_member() -> None:
    peers = Peers()
    peers.place({"n2": "h2:1"})
    assert not peers.up("n9", "h2:1")
    assert asked(peers, "n2") is None
    assert asked(peers, "n9") is None


def test_a_node_whose_link_was_up_before_it_had_a_place_can_be_asked_once_it_has() -> None:
    peers = Peers()
    assert not peers.up("n2", "h2:1")
    assert peers.place({"n2": "h2:1", "n3": "h3:1"}) == ([], ["n2"])
    assert asked(peers, "n2") == "h2:1"


def test_a_node_that_moved_is_asked_at_its_new_place_only() -> None:
    peers = Peers()
    peers.place({"n2": "old:1"})
    peers.up("n2", "old:1")
    assert peers.place({"n2": "new:1"}) == (["n2"], [])
    assert asked(peers, "n2") is None
    assert peers.name_at("old:1") is None  # what comes from there now is not the member's word
    peers.up("n2", "new:1")
    assert peers.down("old:1") is None  # the old link lingered
    assert asked(peers, "n2") == "new:1"


def test_a_node_that_moved_and_is_linked_already_was_lost_and_found() -> None:
    peers = Peers()
    peers.place({"n2": "old:1"})
    peers.up("n2", "old:1")
    peers.up("n2", "new:1")
    assert peers.place({"n2": "new:1"}) == (["n2"], ["n2"])
    assert peers.place({"n2": "new:1"}) == ([], [])


def test_the_address_of_whoever_can_be_asked_is_known() -> None:
    peers = Peers()
    peers.place({"n2": "h2:1"})
    assert peers.address_of("n2") is None
    peers.up("n2", "h2:1")
    assert peers.address_of("n2") == "h2:1"
    assert peers.address_of("n3") is None


def test_only_nodes_that_know_of_it_are_asked_what_is_new() -> None:
    peers, out = Peers(), Outbox()
    able = Able(peers, "news")
    peers.place({"n2": "h2:1", "n3": "h3:1"})
    peers.up("n2", "h2:1", ("news", "other"))
    peers.up("n3", "h3:1", ("other",))
    assert [able.can_ask(name) for name in ("n2", "n3", "n4")] == [True, False, False]
    assert [able.send(name, READ, out) for name in ("n2", "n3", "n4")] == [True, False, False]
    assert out.sends == [("h2:1", READ)]
    peers.down("h2:1")
    peers.up("n2", "h2:1")  # it went back to the version before
    assert not able.can_ask("n2")
