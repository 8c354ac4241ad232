"""Membership, replica and coordinator joined into one machine, driven by hand."""

from __future__ import annotations

from random import Random

import pytest

from dyno.buckets.table import Entry, pack
from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.record import Record
from dyno.config import Config
from dyno.placement.hashing import bucket_id, slot_copies
from dyno.protocol.birth import Birth, node_on
from dyno.protocol.handshake import CLIENT
from dyno.protocol.outbox import Outbox
from dyno.protocol.overview import ROUND_S
from dyno.storage.memory import MemoryEngine
from dyno.wire.hints import Held, pack_hints, unpack_hints
from dyno.wire.members import ALIVE, NORMAL, Member, pack_members, unpack_members
from dyno.wire.messages import (
    ASSENTED,
    DEFAULT,
    PROTOCOL_VERSION,
    STATUS_OK,
    STATUS_RING,
    Ack,
    Admit,
    AskBuckets,
    AskFate,
    AskHints,
    AskJoin,
    AskMembers,
    AskStatus,
    Assent,
    Buckets,
    Compare,
    Compared,
    Delete,
    Done,
    Failed,
    Found,
    FoundMany,
    Hello,
    HintsHeld,
    Introduce,
    Listed,
    Members,
    Message,
    Ping,
    Propose,
    Proposed,
    PushPull,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Refuse,
    Reject,
    Scan,
    ScanAnswer,
    Store,
    Stored,
    SwapBuckets,
    Withdrawn,
)
from dyno.wire.pages import pack_keys
from dyno.wire.rows import pack_row, unpack_row
from tests.protocol.node_harness import (
    KEY,
    LINK,
    WIDE,
    Driven,
    a_get,
    a_get_many,
    a_listing,
    a_put,
    create,
    three,
)

USER = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, CLIENT, b"", 0, "", b"", b"", "")


# ── alone ──


def test_a_node_is_ready_once_the_disk_knows_what_it_is_however_much_else_it_is_told() -> None:
    birth = Birth("n1", "n1:1", "", 1.0, 16, ())
    node, out = node_on(MemoryEngine(), birth, config=Config(), random=Random(1)), Outbox()
    node.start(0.0, out)
    assert node.joined
    assert not node.ready
    assert node.take_batch() is not None
    assert not node.ready
    node.receive(LINK, a_put(), 0.0, out)
    node.committed(0.0, out)
    assert node.take_batch() is not None  # of the put: there is always one under way
    assert node.ready


def test_a_founder_serves_at_once_and_keeps_what_it_founded() -> None:
    driven = Driven()
    assert driven.node.joined
    assert driven.node.name == "n1"
    (done,) = driven.ask(a_put())
    assert isinstance(done, Done)
    assert (done.id, done.answered) == (1, "n1")
    (found,) = driven.ask(a_get())
    assert isinstance(found, Found)
    assert [sibling.value for sibling in Record.unpack(found.record).siblings] == [b"value"]
    again = Driven(engine=driven.engine, seed=2)
    assert again.node.hello().cluster == driven.node.hello().cluster
    assert again.ask(a_get()) == [found]


def test_nobody_is_answered_before_the_disk_has_spoken() -> None:
    driven = Driven()
    driven.node.receive(LINK, a_put(), 0.0, driven.out)
    driven.node.receive(LINK, a_get(), 0.0, driven.out)
    driven.end_turn()
    assert not driven.out.replies
    driven.commit()
    assert [type(reply) for _, reply in driven.out.replies] == [Done, Found]


def test_a_delete_leaves_nothing_and_deleting_nothing_succeeds() -> None:
    driven = Driven()
    delete = Delete(3, "bucket", KEY, b"", DEFAULT, DEFAULT, DEFAULT, DEFAULT, b"d" * 16, 5000, False)
    assert driven.ask(delete) == [Done(3, b"", "", "")]
    (put,) = driven.ask(a_put())
    assert isinstance(put, Done)
    context = token.encode(
        Context.unpack(put.context), cluster=driven.node.membership.cluster, bucket="bucket", key=KEY
    )
    (done,) = driven.ask(delete._replace(context=context))
    assert isinstance(done, Done)
    assert done.context
    (found,) = driven.ask(a_get())
    assert isinstance(found, Found)
    assert not Record.unpack(found.record).live


def test_a_user_is_told_the_members() -> None:
    driven = Driven()
    driven.learn("n2")
    (answer,) = driven.ask(AskMembers(9))
    assert isinstance(answer, Members)
    membership = driven.node.membership
    assert answer[:4] == (9, membership.cluster, 16, membership.fingerprint)
    assert [member.name for member in unpack_members(answer.members, members_max=9)] == ["n1", "n2"]


def test_a_user_is_told_what_hints_other_nodes_keep() -> None:
    driven = three()
    assert driven.ask(AskStatus(9)) == []
    asked = driven.sent(AskHints)
    assert [address for address, _ in asked] == ["n2:1", "n3:1"]
    (_, question), _ = asked
    assert isinstance(question, AskHints)
    rows = [Held("n2", "n3", 7)]
    driven.node.answer("n2:1", HintsHeld(question.id, pack_hints(rows)), driven.now, driven.out)
    assert driven.ask() == [], "n3 has not answered"
    deadline = driven.node.deadline()
    assert deadline is not None
    driven.now += ROUND_S
    assert deadline <= driven.now
    driven.node.tick(driven.now, driven.out)
    (answer,) = driven.ask()
    assert isinstance(answer, Members)
    assert (answer.id, unpack_hints(answer.hints)) == (9, [Held("n1", "", 0), *rows])
    driven.ask(AskStatus(10))
    for address in ("n2:1", "n3:1"):
        driven.node.link_down(address, driven.now, driven.out)
    (answer,) = driven.ask()
    assert isinstance(answer, Members)
    assert unpack_hints(answer.hints) == [Held("n1", "", 0)]


def test_a_node_that_has_not_joined_answers_that_there_is_no_ring() -> None:
    driven = Driven("n9:1")
    assert not driven.node.joined
    (failed,) = driven.ask(a_put())
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == ("ring", "n1 has not joined a cluster yet")
    assert driven.ask(Read(1, 7, b"s" * 27)) == [ReadAnswer(1, STATUS_RING, b"")]
    assert driven.ask(Store(1, 7, b"s" * 27, KEY, b"")) == [Stored(1, STATUS_RING)]
    assert driven.node.slots_read_by(a_get()) == []
    assert driven.ask(Scan(1, 7, b"p" * 11, b"", 9)) == [ScanAnswer(1, STATUS_RING, b"", b"")]
    assert driven.node.spans_read_by(a_listing()) == ()


def test_time_is_told_to_all_parts_at_the_earliest_deadline() -> None:
    driven = Driven()
    assert driven.node.deadline() is not None  # a push-pull, some day
    driven.learn("n2", "n3")
    driven.link("n2")
    driven.node.tick(0.0, driven.out)  # the news is gossiped at once, and again 0.2 s later
    driven.node.receive(LINK, a_get(r=3), 0.0, driven.out)
    assert driven.node.deadline() == 0.0  # it waits for its turn to end
    driven.end_turn()
    assert driven.node.deadline() == pytest.approx(0.05)  # the hedge
    driven.node.tick(0.05, driven.out)
    deadline = driven.node.deadline()
    assert deadline is not None
    assert deadline > 0.05
    driven.node.tick(2.0, driven.out)
    failed = driven.out.replies[-1][1]
    assert isinstance(failed, Failed)
    assert failed.code == "quorum"


# ── doors ──


ANSWERS = [
    Found(1, b"", "", ""),
    Done(1, b"", "", ""),
    Members(1, b"", 1, 1, b""),
    ReadAnswer(1, STATUS_OK, b""),
    Stored(1, STATUS_OK),
    Introduce(1, b"", 1, 1, b"", b""),
    Assent(1, b""),
    Reject(1, "busy", ""),
    Buckets(1, b""),
    Proposed(1, ASSENTED, ""),
    USER,
]
REQUESTS = [a_get(), a_put(), Read(1, 7, b"s" * 27), AskJoin(1, b""), Admit(1, b""), AskMembers(1), USER]
REQUESTS += [AskBuckets(1), Propose(1, 7, b"", True), AskFate("bucket", b"", b"")]


@pytest.mark.parametrize("message", ANSWERS)
def test_an_answer_is_no_request(message: Message) -> None:
    with pytest.raises(ValueError, match="is no request"):
        Driven().ask(message)


@pytest.mark.parametrize("message", REQUESTS)
def test_a_request_is_no_answer(message: Message) -> None:
    driven = Driven()
    with pytest.raises(ValueError, match="is no answer"):
        driven.node.answer("n2:1", message, 0.0, driven.out)


def test_strangers_are_judged_at_both_ends_of_a_link() -> None:
    driven = Driven()
    assert driven.node.accept(USER, driven.now) is None
    assert driven.node.accept(driven.hello_of("n2"), driven.now) is None
    foreign = driven.hello_of("n2", cluster=b"another cluster.")
    refuse = driven.node.accept(foreign, driven.now)
    assert refuse is not None
    assert refuse.code == "cluster"
    driven.node.link_up("n2:1", foreign, 0.0, driven.out)
    assert driven.out.events[-1] == ("warning", f"no link to n2:1: {refuse.text}")
    assert driven.out.stop is None


def test_a_refusal_that_is_repeated_is_said_once() -> None:
    driven = Driven()
    driven.out.events.clear()
    for text in ("one", "one", "other"):
        driven.node.refused("n2:1", Refuse("cluster", text), 0.0, driven.out)
    assert [text for _, text in driven.out.events] == ["no link to n2:1: one", "no link to n2:1: other"]
    driven.node.link_up("n2:1", driven.hello_of("n2"), 0.0, driven.out)
    driven.node.refused("n2:1", Refuse("cluster", "other"), 0.0, driven.out)
    assert len(driven.out.events) == 3


def test_what_was_refused_is_remembered_of_so_many_addresses() -> None:
    driven = Driven(config=Config(members_max=2))
    driven.out.events.clear()
    for number in (2, 3, 4, 3, 2):
        driven.node.refused(f"n{number}:1", Refuse("cluster", "no"), 0.0, driven.out)
    assert [text[:13] for _, text in driven.out.events] == [
        "no link to n2",
        "no link to n3",
        "no link to n4",
        "no link to n2",
    ]


def test_a_seed_of_another_cluster_ends_the_node_and_a_seed_that_is_not_ready_does_not() -> None:
    driven = Driven("n9:1")
    driven.node.refused("n9:1", Refuse("joining", "n9 has not joined a cluster yet"), 0.0, driven.out)
    assert driven.out.stop is None
    driven.node.refused("n9:1", Refuse("cluster", "n9 belongs elsewhere"), 0.0, driven.out)
    assert driven.out.stop == "cannot join at n9:1: n9 belongs elsewhere"


def test_a_member_that_moves_to_another_address_changes_no_plan() -> None:
    driven = Driven()
    driven.learn("n2")
    ring = driven.node._planner.ring
    driven.learn("n2", port=2)
    assert driven.node._planner.ring is ring
    driven.link("n2", port=2)
    driven.ask(a_put(w=2))
    assert [address for address, _ in driven.sent(Store)] == ["n2:2"]


def test_an_address_that_turns_out_to_be_our_own_is_let_go() -> None:
    driven = Driven()
    driven.node.link_up("alias:1", driven.node.hello(), 0.0, driven.out)
    assert driven.out.disconnect == ["alias:1"]


def test_what_a_member_answers_of_members_is_learned_and_planned_with() -> None:
    driven = Driven()
    driven.learn("n2")
    address = driven.link("n2")
    ring = driven.node.membership.fingerprint
    n3 = b"n3".ljust(16, b".")
    newcomer = Member("n3", n3, n3, n3[:8], 1, 0, NORMAL, ALIVE, "n3:1", "", 1.0)
    table = pack_members([*driven.node.membership.table.members(), newcomer])
    driven.node.answer(address, PushPull(table, False), 0.0, driven.out)
    assert driven.node.membership.fingerprint != ring
    assert driven.ask(Read(1, ring, b"s" * 27)) == [ReadAnswer(1, STATUS_RING, b"")]
    driven.link("n3")
    driven.out.sends.clear()
    assert driven.ask(a_put(w=3)) == []
    assert sorted(to for to, _ in driven.sent(Store)) == ["n2:1", "n3:1"]


def test_a_clean_stop_says_goodbye_and_finishes_what_is_under_way() -> None:
    driven = Driven()
    driven.learn("n2")
    driven.link("n2")
    driven.ask(a_put(w=2))
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    driven.node.stop(0.0, driven.out)
    assert [address for address, _ in driven.sent(PushPull)] == ["n2:1"]
    assert driven.node.busy
    driven.node.answer("n2:1", Stored(store.id, STATUS_OK), 0.0, driven.out)
    assert [type(reply) for _, reply in driven.out.replies] == [Done]
    assert not driven.node.busy


def test_datagrams_go_to_the_membership() -> None:
    driven = Driven()
    me = driven.node.membership.me
    driven.node.receive_datagram("n2:1", Ping(5, "n1", me.start, "n2", b""), 0.0, driven.out)
    ((address, ack),) = driven.out.datagrams
    assert address == "n2:1"
    assert isinstance(ack, Ack)
    assert (ack.seq, ack.sender, ack.start) == (5, "n1", me.start)


# ── with others ──


def test_a_write_goes_to_the_other_owners_and_is_done_when_one_of_them_has_it() -> None:
    driven = three()
    assert driven.ask(a_put()) == []
    sends = driven.sent(Store)
    assert sorted(address for address, _ in sends) == ["n2:1", "n3:1"]
    store = sends[0][1]
    assert isinstance(store, Store)
    driven.node.answer("n2:1", Stored(store.id, STATUS_OK), 0.0, driven.out)
    ((link, done),) = driven.out.replies
    assert link == LINK
    assert isinstance(done, Done)
    assert done.answered == "n1,n2"
    driven.node.answer("n2:1", Stored(store.id, STATUS_OK), 0.0, driven.out)
    driven.node.answer("n3:1", Stored(store.id, STATUS_OK), 0.0, driven.out)
    assert len(driven.out.replies) == 1


def test_a_peer_that_plans_with_another_ring_is_shown_ours_now_and_then() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    driven.node.answer("n2:1", Stored(store.id, STATUS_RING), 0.0, driven.out)
    assert [address for address, _ in driven.sent(PushPull)] == ["n2:1"]
    driven.node.answer("n2:1", Stored(store.id, STATUS_RING), 0.1, driven.out)
    assert driven.sent(PushPull) == []
    driven.node.tick(0.2, driven.out)
    assert [address for address, _ in driven.sent(Store)] == ["n2:1"]  # and asked again
    driven.node.answer("n2:1", ReadAnswer(99, STATUS_RING, b""), 0.3, driven.out)
    assert [address for address, _ in driven.sent(PushPull)] == ["n2:1"]
    about_the_ring = Failed(99, "ring", "the nodes disagree", 0, "", False, 0, b"")
    driven.node.answer("n2:1", about_the_ring, 0.6, driven.out)
    assert [address for address, _ in driven.sent(PushPull)] == ["n2:1"]
    driven.node.answer("n2:1", about_the_ring._replace(code="quorum"), 0.9, driven.out)
    assert driven.sent(PushPull) == []


def test_a_listing_is_coordinated_and_its_answers_find_it() -> None:
    driven = three()
    driven.ask(a_put())
    driven.sent(Store)
    (slot,) = driven.node.slots_read_by(a_get())
    assert driven.ask(a_listing(partition=slot[0] << 8 | slot[1])) == []
    ((address, scan),) = driven.sent(Scan)
    assert isinstance(scan, Scan)
    driven.node.answer(address, ScanAnswer(scan.id, STATUS_RING, b"", b""), 0.0, driven.out)
    assert [asked for asked, _ in driven.sent(PushPull)] == [address], "show each other the tables"
    (mine,) = driven.ask(scan)
    assert isinstance(mine, ScanAnswer)
    other = "n2:1" if address == "n3:1" else "n3:1"
    driven.node.answer(other, mine._replace(id=scan.id), 0.0, driven.out)
    answers = [reply for _, reply in driven.out.replies]
    assert answers == [Listed(3, pack_keys([KEY]), b"")]


def test_a_node_whose_link_breaks_gets_the_write_when_the_link_is_back() -> None:
    driven = three()
    driven.ask(a_put(w=3))
    driven.sent(Store)
    driven.node.link_down("n2:1", 0.1, driven.out)
    driven.node.link_down("nobody:1", 0.1, driven.out)
    assert driven.sent(Store) == []
    driven.link("n2")
    assert [address for address, _ in driven.sent(Store)] == ["n2:1"]


def test_a_node_that_moves_gets_the_write_at_its_new_address() -> None:
    driven = three()
    driven.ask(a_put(w=3))
    driven.sent(Store)
    driven.node.link_up("n2:2", driven.hello_of("n2"), 0.1, driven.out)  # before it is known to have moved
    assert driven.sent(Store) == []
    driven.node.receive(LINK, PushPull(_moved(driven, "n2", port=2), False), 0.1, driven.out)
    assert [address for address, _ in driven.sent(Store)] == ["n2:2"]
    store_id = 1
    driven.node.answer("n2:1", Stored(store_id, STATUS_OK), 0.2, driven.out)  # the old process, still there
    driven.node.answer("n3:1", Stored(store_id, STATUS_OK), 0.2, driven.out)
    assert not driven.out.replies
    driven.node.answer("n2:2", Stored(store_id, STATUS_OK), 0.2, driven.out)
    assert [type(reply) for _, reply in driven.out.replies] == [Done]


def _moved(driven: Driven, name: str, port: int) -> bytes:
    (member,) = [member for member in driven.node.membership.ring_members() if member.name == name]
    return pack_members(
        [member._replace(stamp=member.stamp + 1, start=b"start 02", address=f"{name}:{port}")]
    )


def test_a_failed_commit_is_reported_and_everybody_who_waited_is_told() -> None:
    driven = Driven()
    driven.node.receive(LINK, a_put(), 0.0, driven.out)
    assert driven.node.take_batch() is not None
    driven.node.commit_failed("no room", 0.0, driven.out)
    assert ("error", "a commit failed: no room") in driven.out.events
    failed = driven.out.replies[0][1]
    assert isinstance(failed, Failed)
    assert failed.code == "storage"
    assert driven.node.deadline() is not None


# ── returning at another address ──


def moved(driven: Driven) -> Driven:
    """The same directory, started at another address; it looks after the old one first."""
    again = Driven.__new__(Driven)
    again.engine, again.now, again.out = driven.engine, 100.0, Outbox()
    birth = Birth("n1", "new:1", "", 1.0, 16, ())
    again.node = node_on(again.engine, birth, config=Config(), random=Random(2))
    again.node.start(again.now, again.out)
    assert again.out.connect == ["n1:1"]
    return again


def test_a_node_that_moved_says_nothing_before_its_name_is_free() -> None:
    again = moved(Driven())
    stranger = again.hello_of("n2")
    refuse = again.node.accept(stranger, again.now)
    assert refuse is not None
    assert refuse.code == "joining"
    again.node.receive_datagram("n2:1", Ping(1, "n1", b"", "n2", b""), again.now, again.out)
    again.node.link_down("n1:1", again.now, again.out)
    again.node.tick(again.now, again.out)
    assert not again.out.datagrams
    assert not again.node.ready
    again.node.link_up("n1:1", stranger, again.now, again.out)
    assert again.node.deadline() == again.now
    again.node.tick(again.now, again.out)
    again.commit()
    assert again.node.ready
    assert again.node.accept(stranger, again.now) is None


def test_a_node_that_moved_is_not_led_astray_by_one_that_refuses_it() -> None:
    again = moved(Driven())
    again.node.refused("n1:1", Refuse("cluster", "elsewhere"), again.now, again.out)
    again.node.tick(again.now, again.out)
    again.commit()
    assert again.out.stop is None
    assert again.node.ready


def test_a_node_that_is_stopped_while_it_looks_has_nothing_to_take_back_and_does_not_begin() -> None:
    again = moved(Driven())
    again.node.stop(again.now, again.out)
    again.node.tick(again.now + 10, again.out)
    assert again.node.deadline() is None
    assert again.node.take_batch() is None
    assert not again.out.meta
    assert not again.out.sends
    assert not again.node.joined


def test_a_copy_of_a_living_nodes_directory_stops() -> None:
    original = Driven()
    again = moved(original)
    again.node.link_up("n1:1", original.node.hello(), again.now, again.out)
    assert again.out.stop is not None
    assert "copy" in again.out.stop


# ── overload ──


def test_a_request_that_must_not_join_the_line_is_refused_unstarted() -> None:
    driven = Driven()
    line = driven.node.read_line
    assert not driven.node.busy
    line.mean_s, line.waiting = 0.01, 50
    assert driven.node.busy  # a clean stop waits for the line
    driven.node.overloaded(LINK, a_get(), driven.out)
    driven.node.overloaded(LINK, Store(0, 1, b"slot", KEY, b""), driven.out)
    text = "n1: reads wait 0.50 s for the disk"
    assert driven.out.replies == [(LINK, Failed(2, "overloaded", text, 0, "", False, 500, b""))]
    line.waiting = 0
    driven.out = Outbox()
    driven.node.overloaded(LINK, a_get(), driven.out)
    assert driven.out.replies[0][1].retry_after_ms == 100  # type: ignore[union-attr]


# ── many reads at once ──


def test_many_keys_of_a_client_are_answered_in_one_message() -> None:
    driven = Driven()
    driven.ask(a_put())
    (answer,) = driven.ask(a_get_many(b"other", KEY))
    assert isinstance(answer, FoundMany)
    nothing, record = unpack_row(answer.records, items_max=2)
    assert nothing == b""
    assert record
    assert (answer.id, answer.answered, answer.which) == (3, "n1", b"\0\0")


def asked_of_a_peer(*requests: Message) -> tuple[Driven, str, ReadMany]:
    """n1 was asked, and has asked n2."""
    driven = Driven()
    driven.learn("n2")
    address = driven.link("n2")
    driven.out.sends.clear()
    for request in requests:
        driven.node.receive(LINK, request, driven.now, driven.out)
    driven.end_turn()
    ((to, question),) = driven.sent(ReadMany)
    assert to == address
    assert isinstance(question, ReadMany)
    return driven, address, question


def test_a_turns_reads_are_asked_for_together_and_answered_with_what_all_have() -> None:
    driven, address, question = asked_of_a_peer(a_get(1), a_get(2))
    assert driven.node.busy
    answer = ReadManyAnswer(question.id, STATUS_OK, pack_row([b"", b""]))
    driven.node.answer("n3:1", answer, 0.0, driven.out)  # who is that?
    driven.node.answer(address, answer, 0.0, driven.out)
    driven.node.answer(address, answer, 0.0, driven.out)
    answers = [reply for _, reply in driven.out.replies]
    assert answers == [Found(1, b"", "n1,n2", ""), Found(2, b"", "n1,n2", "")]
    assert not driven.node.busy


def test_a_read_goes_on_alone_when_the_link_breaks_or_the_peer_has_another_ring() -> None:
    driven, address, question = asked_of_a_peer(a_get(1))
    driven.node.link_down(address, driven.now, driven.out)
    assert driven.sent(Read) == []
    assert driven.out.replies == []
    driven.link("n2")
    assert [to for to, _ in driven.sent(Read)] == [address]
    driven, address, question = asked_of_a_peer(a_get(1))
    driven.node.answer(address, ReadManyAnswer(question.id, STATUS_RING, b""), 0.0, driven.out)
    assert len(driven.sent(PushPull)) + len(driven.sent(Read)) >= 1
    assert driven.node.busy


def test_a_read_that_was_passed_on_is_read_by_itself() -> None:
    driven = Driven()
    driven.learn("n2")
    driven.link("n2")
    driven.out.sends.clear()
    driven.node.receive(LINK, a_get(1)._replace(forwarded=True), driven.now, driven.out)
    assert len(driven.sent(Read)) == 1


# ── buckets ──


def test_a_node_alone_creates_buckets_and_knows_them_again() -> None:
    driven = Driven()
    assert driven.ask(create()) == [Buckets(5, pack([WIDE]))]
    assert driven.ask(AskBuckets(6)) == [Buckets(6, pack([WIDE]))]
    again = Driven(engine=driven.engine, seed=2)
    assert again.ask(AskBuckets(6)) == [Buckets(6, pack([WIDE]))]
    (slot,) = again.node.slots_read_by(a_get()._replace(bucket="wide"))
    assert slot_copies(slot) == 5


def test_a_member_reserves_a_name_and_serves_it_to_nobody() -> None:
    driven = Driven()
    driven.learn("n2")
    address = driven.link("n2")
    reserved = Entry("wide", WIDE.properties, b"p" * 16, b"n2".ljust(16, b"."))
    propose = Propose(4, driven.node.membership.fingerprint, pack([reserved]), True)
    assert driven.ask(propose) == [Proposed(4, ASSENTED, "")]
    get = a_get()._replace(bucket="wide")
    (failed,) = driven.ask(get)
    assert isinstance(failed, Failed)
    assert failed.message == "bucket 'wide' is being created by n2; try again in a moment"
    assert driven.node.slots_read_by(get) == []
    for n in (0, 3, 5):
        slot = b"\0\0" + bytes([n]) + bucket_id("wide") + b"h" * 16
        assert driven.ask(Read(1, propose.ring, slot)) == [ReadAnswer(1, STATUS_RING, b"")]
    driven.out.sends.clear()
    driven.node.tick(1.0, driven.out)
    assert [to for to, _ in driven.sent(AskFate)] == [address]
    driven.node.answer(address, Withdrawn("wide", b"p" * 16), 1.0, driven.out)
    driven.commit()
    assert len(driven.node.slots_read_by(get)) == 1


def test_a_read_under_way_fails_when_its_bucket_is_created() -> None:
    driven = Driven()
    driven.learn("n2")
    address = driven.link("n2")
    get = a_get(r=2)._replace(bucket="wide", forwarded=True)
    driven.node.receive(LINK, get, 0.0, driven.out)
    driven.node.answer(address, SwapBuckets(pack([WIDE]), False), 0.0, driven.out)
    ((_, failed),) = driven.out.replies
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == ("ring", "the ring changed during the read")


def test_reads_that_were_gathered_are_planned_anew_when_their_bucket_is_created() -> None:
    driven = Driven()
    driven.learn("n2")
    address = driven.link("n2")
    driven.node.receive(LINK, a_get(r=2)._replace(bucket="wide"), 0.0, driven.out)
    driven.node.tick(0.0, driven.out)
    ((_, many),) = driven.sent(ReadMany)
    assert isinstance(many, ReadMany)
    assert slot_copies(many.slots) == 3
    driven.node.answer(address, SwapBuckets(pack([WIDE]), False), 0.0, driven.out)
    ((_, read),) = driven.sent(Read)
    assert isinstance(read, Read)
    assert slot_copies(read.slot) == 5


def test_members_show_each_other_their_buckets_when_they_meet_and_when_they_disagree() -> None:
    driven = Driven()
    driven.ask(create())
    driven.learn("n2")
    address = driven.link("n2")
    shown = (address, SwapBuckets(pack([WIDE]), True))
    driven.commit()
    assert driven.sent(SwapBuckets) == [shown]
    driven.node.answer(address, ReadAnswer(1, STATUS_RING, b""), 1.0, driven.out)
    driven.commit()
    assert driven.sent(SwapBuckets) == [shown]
    driven.learn("n2", "n3", port=1)
    driven.node.link_down(address, 2.0, driven.out)
    driven.node.link_up("n3:1", driven.hello_of("n3"), 2.0, driven.out)
    driven.commit()
    assert driven.sent(SwapBuckets) == [("n3:1", SwapBuckets(pack([WIDE]), True))]


def test_a_member_that_moves_to_where_a_link_is_up_is_shown_the_buckets() -> None:
    driven = Driven()
    driven.ask(create())
    driven.learn("n2")
    driven.node.link_up("n2:2", driven.hello_of("n2"), 0.0, driven.out)  # it is not known to live there
    driven.commit()
    driven.out = Outbox()
    members = [
        member._replace(address="n2:2", stamp=2) if member.name == "n2" else member
        for member in driven.node.membership.table.members()
    ]
    driven.node.receive(LINK, PushPull(pack_members(members), False), 0.0, driven.out)
    driven.commit()
    assert driven.sent(SwapBuckets) == [("n2:2", SwapBuckets(pack([WIDE]), True))]


def test_a_creation_under_way_is_awaited_before_the_end() -> None:
    driven = Driven()
    driven.learn("n2")
    driven.link("n2")
    assert driven.ask(create()) == []
    driven.node.stop(0.0, driven.out)
    assert driven.node.busy
    driven.node.tick(3.0, driven.out)
    assert not driven.node.busy


def test_an_answer_to_a_part_of_the_background_finds_its_way_to_it() -> None:
    driven = three()
    driven.now = 1.0
    driven.node.tick(driven.now, driven.out)
    ((address, asked),) = driven.sent(Compare)
    assert isinstance(asked, Compare)
    driven.node.answer(address, Compared(asked.id, STATUS_OK, True, b"", b"", 0), driven.now, driven.out)
    assert max(driven.node._exchanges._queue.values()) == 1.0
