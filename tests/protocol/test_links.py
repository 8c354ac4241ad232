"""Whom a node keeps dialling."""

from __future__ import annotations

from dyno.protocol.links import Links
from dyno.protocol.outbox import Outbox


def test_what_is_wanted_is_dialled_once_and_dropped_when_wanted_no_more():
    links, out = Links(), Outbox()
    links.want(["a:1", "b:1", "a:1"], out)
    assert (out.connect, out.disconnect) == (["a:1", "b:1"], [])
    out = Outbox()
    links.want(["b:1", "c:1"], out)
    assert (out.connect, out.disconnect) == (["c:1"], ["a:1"])


def test_the_last_word_of_a_turn_holds():
    """Disconnects are carried out before connects, so what the outbox holds must come to the same in that
    order."""
    links, out = Links(), Outbox()
    links.want(["a:1"], Outbox())
    links.want([], out)
    links.want(["a:1"], out)
    assert (out.disconnect, out.connect) == (["a:1"], ["a:1"])  # dialled anew
    links.want([], out)
    assert (out.disconnect, out.connect) == (["a:1"], [])
    links, out = Links(), Outbox()
    links.want(["a:1"], out)
    links.want([], out)
    assert (out.disconnect, out.connect) == ([], [])


def test_a_link_is_up_from_one_event_to_the_next():
    links = Links()
    links.want(["a:1", "b:1"], Outbox())
    assert links.up() == []
    assert links.went_up("a:1")
    assert links.is_up("a:1")
    assert links.up() == ["a:1"]
    links.went_down("a:1")
    assert not links.is_up("a:1")


def test_events_of_links_that_nobody_wants_any_more_are_none():
    links = Links()
    assert not links.went_up("a:1")
    links.went_down("a:1")
    assert not links.is_up("a:1")
    assert links.up() == []
