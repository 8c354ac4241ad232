"""Which links are up, which to dial, and why the others are not."""

from __future__ import annotations

import math
import random

import pytest

from dyno.session.links import (
    DIAL_TIMEOUT_S,
    DIALS_MAX,
    RECONNECT_MAX_S,
    RECONNECT_MIN_S,
    SILENT_MAX_S,
    WINDOW_BYTES_MAX,
    Links,
    LinkState,
)
from dyno.session.outbox import SessionOutbox


class Half(random.Random):
    """Chance that always says one half: pauses are three quarters of their longest."""

    def random(self) -> float:
        return 0.5


@pytest.fixture
def out():
    return SessionOutbox()


def links_to(*seeds: str) -> Links:
    return Links(seeds, Half())


def up(links: Links, address: str, name: str, now: float = 0.0):
    link = links.get(address)
    assert link is not None
    links.came_up(link, name, now)
    return link


def test_all_listed_addresses_are_dialled_each_once(out):
    links = links_to("a:1", "b:1", "a:1")
    links.dial_all(0.0, out)
    links.dial_all(0.0, out)
    assert sorted(out.connect) == ["a:1", "b:1"]


def test_the_order_is_shuffled_so_that_clients_do_not_crowd(out):
    orders = []
    for seed in range(20):
        out.connect.clear()
        Links(("a:1", "b:1", "c:1"), random.Random(seed)).dial_all(0.0, out)
        orders.append(tuple(out.connect))
    assert len(dict.fromkeys(orders)) > 2


def test_a_long_list_is_dialled_a_few_at_a_time(out):
    links = links_to(*(f"n{i}:1" for i in range(DIALS_MAX + 3)))
    links.dial_all(0.0, out)
    assert len(out.connect) == DIALS_MAX
    assert links.next_event(redial=True) == DIAL_TIMEOUT_S, "the others wait for one to end"
    links.went_down(links.get(out.connect[0]), "refused", 0.1)
    links.dial_all(0.1, out)
    assert len(out.connect) == DIALS_MAX + 1
    assert len(dict.fromkeys(out.connect)) == DIALS_MAX + 1, "untried ones come before the one that failed"


def test_a_link_that_failed_is_left_alone_for_a_growing_pause(out):
    links = links_to("a:1")
    link, now, pauses = links.get("a:1"), 0.0, []
    for _ in range(10):
        links.dial(link, now, out)
        links.went_down(link, "refused", now)
        pauses.append(link.retry_at - now)
        links.dial(link, now + pauses[-1] / 2, out)
        assert link.state is LinkState.DOWN, "too early"
        assert links.next_event(redial=True) == link.retry_at
        assert links.next_event(redial=False) == math.inf
        now = link.retry_at
    assert pauses[0] == pytest.approx(RECONNECT_MIN_S * 0.75)
    assert pauses[1] == pytest.approx(RECONNECT_MIN_S * 1.5)
    assert pauses[-1] == pytest.approx(RECONNECT_MAX_S * 0.75)
    assert len(out.connect) == 10


def test_a_link_that_came_up_forgets_its_failures(out):
    links = links_to("a:1")
    link = links.get("a:1")
    links.went_down(link, "refused", 0.0)
    links.came_up(link, "n1", 1.0)
    assert (link.failures, link.reason, link.ready) == (0, "", True)
    assert links.any_up


def test_a_dial_that_takes_too_long_is_overdue(out):
    links = links_to("a:1")
    links.dial_all(0.0, out)
    assert links.next_event(redial=False) == DIAL_TIMEOUT_S
    assert links.overdue(DIAL_TIMEOUT_S - 0.1) == []
    ((link, reason),) = links.overdue(DIAL_TIMEOUT_S)
    assert (link.address, reason) == ("a:1", "no answer within 2 s")


def test_a_silent_link_takes_no_more_requests_and_is_overdue_in_the_end(out):
    links = links_to("a:1")
    link = up(links, "a:1", "n1")
    link.fall_silent(10.0)
    link.fall_silent(12.0)
    assert not link.ready
    assert links.any_ready(()) is None
    assert links.next_event(redial=False) == 10.0 + SILENT_MAX_S
    assert links.overdue(10.0 + SILENT_MAX_S) == [(link, "silent for 5 s")]


def test_a_full_window_takes_no_more_requests_until_answers_come(out):
    links = links_to("a:1")
    link = up(links, "a:1", "n1")
    link.charge(WINDOW_BYTES_MAX - 1)
    assert link.ready
    link.charge(1)
    assert not link.ready
    link.discharge(1)
    assert link.ready


def test_a_link_that_broke_owes_nothing_any_more():
    links = links_to("a:1")
    link = up(links, "a:1", "n1")
    link.charge(WINDOW_BYTES_MAX)
    links.went_down(link, "reset", 1.0)
    assert (link.unanswered_bytes, link.state, link.name) == (0, LinkState.DOWN, "")
    assert not links.any_up


def test_a_member_is_reached_over_the_address_that_is_up():
    links = links_to("localhost:7101")
    assert links.of_member("n1", "127.0.0.1:7101").address == "127.0.0.1:7101"
    seed = up(links, "localhost:7101", "n1")
    assert links.of_member("n1", "127.0.0.1:7101") is seed


def test_a_node_that_is_linked_twice_stays_up_when_one_link_breaks():
    links = links_to("localhost:7101", "127.0.0.1:7101")
    one = up(links, "localhost:7101", "n1")
    two = up(links, "127.0.0.1:7101", "n1")
    assert links.any_ready(()) is two
    links.went_down(two, "reset", 1.0)
    assert links.any_ready(()) is one
    links.went_down(one, "reset", 1.0)
    assert links.any_ready(()) is None


def test_any_ready_link_passes_over_those_that_were_tried():
    links = links_to("a:1", "b:1")
    one, two = up(links, "a:1", "n1"), up(links, "b:1", "n2")
    assert links.any_ready(()) is one
    assert links.any_ready([one]) is two
    assert links.any_ready([one, two]) is None


def test_links_to_former_members_are_forgotten_unless_listed_or_in_use():
    links = links_to("seed:1")
    links.of_member("n1", "n1:1")
    links.of_member("n2", "n2:1")
    links.of_member("n3", "n3:1")
    up(links, "n3:1", "n3")
    links.forget_all_but(["n1:1"])
    assert [links.get(a) is not None for a in ("seed:1", "n1:1", "n2:1", "n3:1")] == [True, True, False, True]


def test_why_names_the_listed_addresses_and_their_reasons(out):
    links = links_to(*(f"n{i}:1" for i in range(7)))
    assert not links.listed_all_failed()
    for i in range(7):
        links.went_down(links.get(f"n{i}:1"), "Connection refused", 0.0)
    assert links.listed_all_failed()
    why = links.why()
    assert why.count("Connection refused") == 5
    assert why.endswith("and 2 more")
    assert links_to("a:1").why() == "a:1: no answer yet"


def test_a_spared_link_serves_only_where_no_other_is_ready(out):
    links = links_to("a:1", "b:1")
    links.dial_all(0.0, out)
    one, other = up(links, "a:1", "a"), up(links, "b:1", "b")
    one.spare(1.0)
    one.spare(0.5)
    assert one.spared_until == 1.0
    assert not one.ready
    assert one.serves
    one.charge(1)
    one.discharge(1)
    assert not one.ready, "room is not what it lacks"
    assert links.any_ready(()) is other
    assert links.any_ready([other]) is one
    other.fall_silent(0.0)
    assert links.any_ready(()) is one
    one.fall_silent(0.0)
    assert links.any_ready(()) is None
    links.went_down(one, "reset", 0.0)
    assert one.spared_until is None


def test_a_late_read_counts_once_until_the_link_is_heard(out):
    links = links_to("a:1")
    links.dial_all(0.0, out)
    link = up(links, "a:1", "a")
    for _ in range(1000):
        link.usual.took(0.02)
    usual = link.usual.seconds
    link.found_late(1.0)
    once = link.usual.seconds
    assert once > usual
    link.found_late(1.1)
    assert link.usual.seconds == once
    link.heard_at = 1.2
    link.found_late(1.3)
    assert link.usual.seconds > once


def test_answers_of_one_turn_are_one_sample(out):
    links = links_to("a:1")
    links.dial_all(0.0, out)
    link = up(links, "a:1", "a")
    link.found_after(0.003, 1.0)
    once = link.usual.seconds
    for _ in range(100):
        link.found_after(0.002, 1.0)
    assert link.usual.seconds == once
    link.found_after(0.003, 1.001)
    assert link.usual.seconds < once
