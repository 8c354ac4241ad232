"""A node finds out that its disk is an old copy, and takes a new id for it."""

from __future__ import annotations

import math

from dyno.protocol.handshake import CLIENT
from dyno.protocol.identity import LOST_ALL
from dyno.wire.members import pack_members
from dyno.wire.messages import STATUS_OK, Committed, Hello, PushPull, Store, Stored
from tests.protocol.node_harness import Driven, a_put, three


def greet(driven: Driven, name: str, **fields: int | bytes) -> None:
    said: Hello = driven.hello_of(name)._replace(start=name.encode().ljust(8, b"."), **fields)
    driven.node.link_up(f"{name}:1", said, driven.now, driven.out)


def old_copy() -> Driven:
    """n1 hears from n2 of a commit that its disk does not have."""
    driven = three()
    greet(driven, "n2", seen=driven.engine.commit_number + 100)
    return driven


def warnings(driven: Driven) -> str:
    return "\n".join(text for _, text in driven.out.events)


def test_who_hears_of_a_later_commit_of_its_own_is_an_old_copy() -> None:
    driven = old_copy()
    before = driven.node.membership.me
    assert "this data directory is an old copy (n2 knows of commit" in warnings(driven)
    assert driven.node.recovering
    assert driven.node.membership.me == before  # until it is on the disk
    driven.commit()
    me = driven.node.membership.me
    assert me.directory != before.directory
    assert me.order() > before.order()
    assert driven.engine.get_meta("directory") == me.directory
    assert driven.engine.get_meta("former") == before.directory
    assert driven.engine.get_meta("recovering") == LOST_ALL
    assert driven.node.hello().directory == me.directory
    told = [message for _, message in driven.sent(PushPull)]
    assert any(isinstance(message, PushPull) and me.directory in message.members for message in told)


def test_it_is_told_by_several_and_draws_one_id() -> None:
    driven = old_copy()
    greet(driven, "n3", seen=driven.engine.commit_number + 100)
    assert warnings(driven).count("is an old copy") == 1


def test_what_this_start_has_committed_itself_says_nothing() -> None:
    driven = three()
    greet(driven, "n2", seen=1)
    driven.ask(a_put())
    assert not warnings(driven)
    assert driven.node.membership.me.directory == driven.engine.get_meta("directory")


def test_a_disk_that_refuses_the_new_id_is_asked_again() -> None:
    driven = old_copy()
    before = driven.node.membership.me
    assert driven.node.take_batch() is not None
    driven.node.commit_failed("full", driven.now, driven.out)
    assert driven.node.membership.me == before
    assert driven.node.take_batch() is None
    driven.now = 1.0
    driven.node.tick(driven.now, driven.out)
    driven.commit()
    assert driven.node.membership.me.directory == driven.engine.get_meta("directory") != before.directory


def test_a_start_after_the_new_id_returns_whatever_the_member_table_says() -> None:
    driven = old_copy()
    batch = driven.node.take_batch()
    assert batch is not None
    driven.engine.write_batch(batch.writes, batch.meta)  # and there it died
    again = Driven(engine=driven.engine, seed=2)
    assert again.node.joined
    assert again.node.membership.me.directory == driven.engine.get_meta("directory")
    assert again.node.membership.me.seat == driven.node.membership.me.seat
    assert again.node.recovering


def test_a_node_that_has_not_joined_is_no_old_copy() -> None:
    driven = Driven("n2:1")
    greet(driven, "n2", seen=100)
    assert not warnings(driven)


def test_whoever_greets_is_told_what_is_known_from_before() -> None:
    driven = three()
    greet(driven, "n2", commit=40)
    driven.node.answer("n2:1", Stored(77, STATUS_OK, 42), driven.now, driven.out)
    driven.node.receive(
        5, Committed(driven.hello_of("n2").directory, b"n2......", 43), driven.now, driven.out
    )
    again = driven.hello_of("n2")._replace(start=b"another.")
    assert driven.node.hello(again).seen == 43
    number = driven.hello_of("n2").commit  # that an earlier start of n2 said
    assert driven.node.hello(again._replace(start=b"n2......")).seen == number
    assert driven.node.hello().seen == 0
    assert driven.node.hello().commit == driven.engine.commit_number


def test_a_process_that_dialled_is_believed_before_anybody_dials_it() -> None:
    """It writes, and may end, before this node's own link to it is back."""
    driven = three()
    greet(driven, "n2", commit=5)
    present = driven.hello_of("n2")._replace(start=b"n2 later", commit=6)
    assert driven.node.accept(present, driven.now) is None
    driven.node.receive(7, Committed(present.directory, present.start, 90), driven.now, driven.out)
    assert driven.node.hello(present).seen == 5  # nobody is told of its own commits
    assert driven.node.hello(present._replace(start=b"n2 again", commit=6)).seen == 90


def test_a_stranger_that_dials_is_not_remembered() -> None:
    driven = three()
    stranger = driven.hello_of("n2")._replace(directory=b"of somebody else", commit=50)
    user = stranger._replace(role=CLIENT, directory=driven.hello_of("n2").directory)
    for said in (stranger, stranger._replace(name="n9"), user):
        assert driven.node.accept(said, driven.now) is None
        assert driven.node.hello(said._replace(start=b"later...")).seen < 50


def test_numbers_of_others_go_with_the_next_commit_or_alone() -> None:
    driven = three()
    driven.commit()
    greet(driven, "n2", commit=40)
    driven.now = 5.0
    driven.node.receive(5, a_put(), driven.now, driven.out)
    batch = driven.node.take_batch(driven.now)
    assert batch is not None
    assert "commits" in batch.meta
    driven.node.committed(driven.now, driven.out)
    greet(driven, "n2", commit=41)
    number = driven.engine.commit_number
    driven.now = 9.0
    driven.node.tick(driven.now, driven.out)
    driven.commit()
    assert driven.engine.commit_number == number + 1
    assert driven.engine.get_meta("commits")
    assert driven.node.ready


def test_two_others_are_told_of_a_commit_with_writes_of_one_s_own_each_in_its_turn() -> None:
    driven = three()
    driven.learn("n2", "n3", "n4")
    driven.link("n4")
    me = driven.node.membership.me
    told = []
    for number in range(1, 4):
        driven.ask(a_put(number))
        for address, message in driven.sent(Committed):
            assert message == Committed(me.directory, me.start, driven.engine.commit_number)
            told.append(address)
    assert sorted(told) == ["n2:1", "n2:1", "n3:1", "n3:1", "n4:1", "n4:1"]
    for name in ("n2", "n3"):
        driven.node.link_down(f"{name}:1", driven.now, driven.out)
    driven.ask(a_put(4))
    assert [address for address, _ in driven.sent(Committed)] == ["n4:1"]
    driven.node.link_down("n4:1", driven.now, driven.out)
    driven.ask(a_put(5))
    assert driven.sent(Committed) == []


def test_of_a_copy_for_another_coordinator_its_answer_tells() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    driven.ask(driven.of_another_key(store))
    assert driven.sent(Committed) == []


def test_progress_of_recovering_is_kept() -> None:
    driven = old_copy()
    driven.commit()
    greet(driven, "n3")
    recovery = driven.node._recovery
    for pair in list(recovery.missing()):
        recovery.finished(pair, driven.now)
    driven.now = 5.0
    driven.node.tick(driven.now, driven.out)
    driven.commit()
    assert driven.engine.get_meta("recovering") not in (None, LOST_ALL)
    assert not driven.node.recovering
    assert driven.node.compared_since == -math.inf


def test_a_member_with_another_directory_is_greeted_again() -> None:
    driven = three()
    seated = driven.node.membership.table.seated("n2")
    assert seated is not None
    renewed = seated._replace(directory=b"another.........", incarnation=1)
    driven.node.receive(5, PushPull(pack_members([renewed]), False), driven.now, driven.out)
    assert driven.out.disconnect == driven.out.connect == ["n2:1"]
    driven.out.disconnect.clear()
    driven.out.connect.clear()
    driven.node.link_down("n2:1", driven.now, driven.out)
    greet(driven, "n2", directory=renewed.directory)
    again = renewed._replace(address="n2:2", incarnation=2)
    driven.node.receive(5, PushPull(pack_members([again]), False), driven.now, driven.out)
    assert driven.out.connect == ["n2:2"]


def test_a_directory_that_was_replaced_since_it_served_is_an_old_copy() -> None:
    driven = Driven()
    me = driven.node.membership.me
    successor = me._replace(directory=b"another.........", start=b"another.", stamp=me.stamp + 1)
    driven.node.receive(5, PushPull(pack_members([successor]), False), driven.now, driven.out)
    assert "is an old copy (another one served in its name since)" in warnings(driven)
    driven.commit()
    assert driven.node.membership.me.directory not in (me.directory, successor.directory)
    assert driven.node.membership.me.stamp > successor.stamp
    driven.learn("n2", "n3")
    assert driven.node.recovering


def test_who_inherited_a_seat_keeps_its_id_and_recovers() -> None:
    driven = three()
    me = driven.node.membership.me
    driven.node.membership._roster.inherited = True  # as the join left it, and on the disk
    driven.learn("n2", "n3")
    assert driven.node.recovering
    assert driven.node.membership.me == me
    recovery = driven.node._recovery
    for pair in list(recovery.missing()):
        recovery.finished(pair, driven.now)
    driven.learn("n2", "n3")
    assert not recovery.missing()
