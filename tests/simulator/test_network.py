"""Connections that keep order, datagrams that do not, and cables to cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dyno.config import CHUNK_BYTES
from dyno.simulator import network
from dyno.simulator.cable import STALL_MAX_S, Quality
from dyno.simulator.end import End
from dyno.simulator.kernel import Kernel
from dyno.simulator.network import CODEC_EVERY, UNREAD_DATAGRAMS_MAX, Network
from dyno.simulator.trace import Trace
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import Ack, Datagram, Message, ReadAnswer, Stored


class Listening:
    """A process on a machine that remembers what comes."""

    def __init__(self, world: World, machine: str) -> None:
        self.world = world
        self.machine = machine
        self.heard: list[tuple[float, Message]] = []
        self.closed: list[tuple[float, str]] = []
        self.datagrams: list[tuple[float, str, bytes, Datagram]] = []
        self.ends: list[End] = []
        world.network.plug(machine, f"{machine}:1")
        world.network.listen(f"{machine}:1", self)

    def accept(self, end: End) -> None:
        end.on_messages = self._messages
        end.on_closed = self._closed
        self.ends.append(end)

    def receive_datagram(self, source: str, cluster: bytes, message: Datagram) -> None:
        self.datagrams.append((self.world.kernel.now, source, cluster, message))

    def send(self, *messages: Message) -> None:
        self.ends[-1].queue += messages
        self.world.network.flush(self.ends[-1])

    def _messages(self, end: End, messages: Sequence[Message]) -> None:
        self.heard += [(self.world.kernel.now, message) for message in messages]

    def _closed(self, end: End, reason: str) -> None:
        self.closed.append((self.world.kernel.now, reason))


class World:
    """Machines a and b; frames take 1 to 2 seconds."""

    def __init__(self) -> None:
        self.kernel = Kernel(1)
        self.trace = Trace(kept=1000)
        self.network = Network(self.kernel, self.trace, latency_s=(1.0, 2.0))
        self.a = Listening(self, "a")
        self.b = Listening(self, "b")
        self.failed: list[tuple[float, str]] = []

    def dial(self, source: Listening, target: str) -> None:
        self.network.dial(
            source.machine,
            f"{target}:1",
            on_connected=source.accept,
            on_failed=lambda reason: self.failed.append((self.kernel.now, reason)),
        )

    def connect(self) -> None:
        self.dial(self.a, "b")
        self.kernel.run_for(4.0)
        assert len(self.a.ends) == len(self.b.ends) == 1


def messages(listening: Listening) -> list[Message]:
    return [message for _, message in listening.heard]


SMALL = [Stored(number, 0) for number in range(50)]
LARGE = ReadAnswer(99, 0, b"x" * (2 * CHUNK_BYTES))


# ── connections ──


def test_a_dial_takes_the_way_there_and_back() -> None:
    world = World()
    connected: list[float] = []
    world.network.dial(
        "a",
        "b:1",
        on_connected=lambda end: connected.append(world.kernel.now),
        on_failed=lambda reason: None,
    )
    world.kernel.run_for(10)
    assert 2.0 <= connected[0] <= 4.0


def test_a_dial_to_a_machine_where_nobody_listens_is_refused() -> None:
    world = World()
    world.network.listen("b:1", None)
    world.network.listen("b:1", None)
    world.dial(world.a, "b")
    world.kernel.run_for(10)
    assert world.failed[0][1] == "connection refused"
    assert 2.0 <= world.failed[0][0] <= 4.0
    assert not world.a.ends


def test_a_dial_to_nowhere_is_never_answered() -> None:
    world = World()
    world.dial(world.a, "nowhere")
    world.kernel.run_for(100)
    assert not world.failed
    assert not world.a.ends


def test_frames_keep_their_order_in_each_direction() -> None:
    world = World()
    world.connect()
    began = world.kernel.now
    for message in SMALL:
        world.a.send(message)
        world.b.send(message._replace(status=1))
        world.kernel.run_for(0.01)
    world.kernel.run_for(10)
    assert messages(world.b) == SMALL
    assert messages(world.a) == [message._replace(status=1) for message in SMALL]
    assert all(1.0 <= at - began <= 2.5 for at, _ in world.b.heard)


def test_what_is_queued_in_one_turn_arrives_together() -> None:
    world = World()
    world.connect()
    world.a.send(*SMALL)
    world.kernel.run_for(10)
    assert messages(world.b) == SMALL
    assert len({at for at, _ in world.b.heard}) == 1


def test_a_large_message_takes_its_time_and_holds_up_nobody() -> None:
    world = World()
    world.network.set_latency("a", "b", (1.0, 1.0))
    world.connect()
    began = world.kernel.now
    world.a.send(LARGE, SMALL[0])
    world.kernel.run_for(10)
    assert messages(world.b) == [SMALL[0], LARGE]
    assert world.b.heard[0][0] == began + 1.0
    assert world.b.heard[1][0] == pytest.approx(began + 1.0 + 2 * CHUNK_BYTES / 125e6, rel=1e-4)


def test_every_kind_of_frame_goes_through_the_codec_now_and_then() -> None:
    world = World()
    world.connect()
    for number in range(CODEC_EVERY):
        world.a.send(SMALL[number % 50], SMALL[(number + 1) % 50])
        if number % 2:
            world.a.send(LARGE)
    world.kernel.run_for(100)
    assert len(world.b.heard) == 2 * CODEC_EVERY + CODEC_EVERY // 2


def test_what_the_codec_would_not_carry_is_found() -> None:
    world = World()
    world.connect()
    with pytest.raises(ProtocolError, match="must be int, not bool"):
        for _ in range(CODEC_EVERY):
            world.a.send(Stored(1, True))
    with pytest.raises(ProtocolError, match="must be int, not bool"):
        for _ in range(CODEC_EVERY):
            world.network.send_datagram("a", "b:1", b"c" * 16, Ack(True, "a", b"start", b""))


def test_closing_tells_the_other_end_after_all_that_was_sent() -> None:
    world = World()
    world.connect()
    world.a.send(*SMALL, LARGE)
    world.network.close(world.a.ends[0], "enough")
    world.network.close(world.a.ends[0], "again")
    world.a.send(SMALL[0])  # too late
    world.b.send(SMALL[0])  # nobody hears it
    world.kernel.run_for(10)
    assert messages(world.b) == [*SMALL, LARGE]
    ((at, reason),) = world.b.closed
    assert reason == "enough"
    assert at >= world.b.heard[-1][0]
    assert not world.a.closed
    assert not world.a.heard


def test_two_ends_that_close_at_once_hear_nothing_of_each_other() -> None:
    world = World()
    world.connect()
    world.network.close(world.a.ends[0], "enough")
    world.network.close(world.b.ends[0], "enough here too")
    world.kernel.run_for(10)
    assert not world.a.closed
    assert not world.b.closed


def test_a_drop_is_heard_of_at_both_ends_at_once() -> None:
    world = World()
    world.connect()
    world.a.send(*SMALL)
    at = world.kernel.now
    world.network.drop("b", "a")
    assert world.a.closed == world.b.closed == [(at, "connection reset")]
    world.kernel.run_for(10)
    assert not world.b.heard


def test_a_connection_that_is_dropped_before_its_dialler_knows_of_it_was_never_made() -> None:
    world = World()
    world.dial(world.a, "b")
    world.kernel.run_until(lambda: bool(world.b.ends), limit_s=10)
    world.network.drop("a", "b")
    world.kernel.run_for(10)
    assert [reason for _, reason in world.failed] == ["connection reset"]
    assert not world.a.ends
    assert len(world.b.closed) == 1


# ── cuts ──


def test_a_cut_holds_connections_up_until_it_is_healed() -> None:
    world = World()
    world.connect()
    world.network.cut("a", "b")
    world.network.cut("a", "b")
    world.a.send(SMALL[0])
    world.a.send(LARGE)
    world.a.send(SMALL[1])
    world.b.send(SMALL[2])
    world.kernel.run_for(14)
    assert world.network.cuts() == [("a", "b")]
    assert messages(world.a) == [SMALL[2]]  # the other direction has a cable of its own
    assert not world.b.heard
    healed = world.kernel.now
    world.network.heal("a", "b")
    world.network.heal("a", "b")
    world.kernel.run_for(10)
    assert [message for message in messages(world.b) if message != LARGE] == [SMALL[0], SMALL[1]]
    assert LARGE in messages(world.b)
    assert all(at > healed for at, _ in world.b.heard)


def test_an_end_that_closes_behind_a_cut_is_noticed_when_it_is_healed() -> None:
    world = World()
    world.connect()
    world.network.cut("a", "b")
    world.network.close(world.a.ends[0], "died")
    world.kernel.run_for(14)
    assert not world.b.closed
    world.network.heal("a", "b")
    world.kernel.run_for(10)
    assert world.b.closed[0][1] == "died"


@pytest.mark.parametrize("direction", [("a", "b"), ("b", "a")])
def test_dials_through_a_cut_are_lost(direction: tuple[str, str]) -> None:
    world = World()
    world.network.cut(*direction)
    world.dial(world.a, "b")
    world.kernel.run_for(10)
    world.network.heal(*direction)
    world.kernel.run_for(10)
    assert not world.a.ends
    assert not world.failed


# ── datagrams ──


def test_datagrams_arrive_each_for_itself() -> None:
    world = World()
    for number in range(20):
        world.network.send_datagram("a", "b:1", b"c" * 16, Ack(number, "a", b"start", b""))
    world.kernel.run_for(10)
    arrived = [message.seq for _, _, _, message in world.b.datagrams]  # type: ignore[union-attr]
    assert sorted(arrived) == list(range(20))
    assert arrived != list(range(20))
    assert {(source, cluster) for _, source, cluster, _ in world.b.datagrams} == {("a:1", b"c" * 16)}


def test_datagrams_to_nobody_are_lost() -> None:
    world = World()
    ack = Ack(1, "a", b"start", b"")
    world.network.send_datagram("a", "nowhere:1", b"c" * 16, ack)
    world.network.cut("a", "b")
    world.network.send_datagram("a", "b:1", b"c" * 16, ack)
    world.network.heal("a", "b")
    world.kernel.run_for(10)
    world.network.send_datagram("a", "b:1", b"c" * 16, ack)
    world.network.listen("b:1", None)
    world.kernel.run_for(10)
    assert not world.b.datagrams


# ── the story ──


def test_arrivals_cuts_and_ends_are_in_the_trace() -> None:
    world = World()
    world.connect()
    world.a.send(SMALL[0])
    world.kernel.run_for(5)
    world.network.cut("a", "b")
    world.network.heal("a", "b")
    world.network.close(world.a.ends[0], "enough")
    world.kernel.run_for(5)
    told = [line[14:].split(maxsplit=3)[3] for line in world.trace.story(10).splitlines()]
    assert told == [
        "Stored(id=0, status=0, commit=0)",
        "the cable is cut",
        "the cable is whole again",
        "closed: enough",
    ]
    assert world.network.machines() == ["a", "b"]


# ── cuts that last ──


def test_a_connection_that_waits_too_long_for_a_cut_to_be_healed_times_out_at_both_ends() -> None:
    world = World()
    world.connect()
    world.network.cut("a", "b")
    world.kernel.run_for(100)
    assert not world.a.closed  # nobody had anything to say
    world.a.send(SMALL[0])
    sent = world.kernel.now
    world.kernel.run_for(10)
    world.a.send(SMALL[1])
    world.kernel.run_for(4.9)
    assert not world.a.closed
    world.kernel.run_for(1)
    assert world.a.closed == world.b.closed == [(sent + STALL_MAX_S, "connection timed out")]
    world.network.heal("a", "b")
    world.kernel.run_for(10)
    assert not world.b.heard


def test_a_cut_that_is_healed_in_time_is_forgotten() -> None:
    world = World()
    world.connect()
    for number in range(3):
        world.network.cut("a", "b")
        world.a.send(SMALL[number])
        world.kernel.run_for(10)
        world.network.heal("a", "b")
        world.kernel.run_for(3)
    assert messages(world.b) == SMALL[:3]
    assert not world.a.closed


def test_who_has_too_much_to_say_through_a_cut_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "UNSENT_BYTES_MAX", 1000)
    world = World()
    world.connect()
    world.network.cut("a", "b")
    world.a.send(ReadAnswer(1, 0, b"x" * 900))
    assert not world.a.closed
    world.a.send(ReadAnswer(2, 0, b"x" * 900))
    assert [reason for _, reason in world.a.closed] == ["the other side reads too slowly"]
    world.network.heal("a", "b")
    world.kernel.run_for(10)
    assert [reason for _, reason in world.b.closed] == ["the other side hung up"]


# ── bad cables ──


def degraded(**qualities: Any) -> World:
    """Only the way from a to b."""
    world = World()
    world.connect()
    quality = world.network.quality("a", "b")._replace(latency_s=(1.0, 1.0), **qualities)
    world.network.set_quality("a", "b", quality)
    return world


def test_loss_delays_a_connection_keeps_its_order_and_breaks_it_in_the_end() -> None:
    world = degraded(loss=0.3)
    began = world.kernel.now
    for message in SMALL:
        world.a.send(message)
    world.kernel.run_for(30)
    assert messages(world.b) == SMALL
    assert world.b.heard[-1][0] - began > 1.2
    world.network.set_quality("a", "b", world.network.quality("a", "b")._replace(loss=1.0))
    lost = world.kernel.now
    world.a.send(SMALL[0])
    world.a.send(SMALL[1])
    world.kernel.run_for(100)
    assert messages(world.b) == SMALL
    assert world.a.closed == world.b.closed == [(lost + STALL_MAX_S, "connection timed out")]


def test_a_large_message_and_a_close_are_lost_like_anything_else() -> None:
    world = degraded(loss=1.0)
    world.a.send(LARGE)
    world.kernel.run_for(100)
    assert [reason for _, reason in world.a.closed] == ["connection timed out"]
    world = degraded(loss=1.0)
    closed = world.kernel.now
    world.network.close(world.a.ends[0], "enough")
    world.kernel.run_for(100)
    assert world.b.closed == [(closed + STALL_MAX_S, "connection timed out")]


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_dials_are_lost_where_everything_is(way: tuple[str, str]) -> None:
    world = World()
    world.network.set_quality(*way, Quality(loss=1.0))
    world.dial(world.a, "b")
    world.kernel.run_for(100)
    assert not world.failed
    assert not world.a.ends


def test_datagrams_are_lost_doubled_and_go_astray() -> None:
    world = degraded(loss=0.3, duplicates=0.3, strays=0.3)
    for number in range(1000):
        world.network.send_datagram("a", "b:1", b"c" * 16, Ack(number, "a", b"start", b""))
    world.kernel.run_for(10)
    arrived = [message.seq for _, _, _, message in world.b.datagrams]  # type: ignore[union-attr]
    times = {number: arrived.count(number) for number in range(1000)}
    assert {0, 1, 2} == set(times.values())
    assert 600 < len(set(arrived)) < 800
    late = [at for at, _, _, _ in world.b.datagrams if at > 5.1]
    assert 200 < len(late) < 450


def test_frames_stand_in_line_before_a_narrow_cable() -> None:
    world = degraded(bytes_per_s=1000.0)
    began = world.kernel.now
    for number in range(5):
        world.a.send(ReadAnswer(number, 0, b"x" * (500 - 36)))
    world.kernel.run_for(20)
    assert [round(at - began, 3) for at, _ in world.b.heard] == [1.5, 2.0, 2.5, 3.0, 3.5]


def test_a_line_dissolves_when_the_cable_is_wide_again() -> None:
    world = degraded(bytes_per_s=10.0)
    for message in SMALL:
        world.a.send(message)
    world.kernel.run_for(10)
    assert len(world.b.heard) < 10
    world.network.repair()
    world.kernel.run_for(3)
    assert messages(world.b) == SMALL


def test_a_line_waits_behind_a_cut_and_keeps_its_order() -> None:
    world = degraded(bytes_per_s=100.0)
    for message in SMALL[:5]:
        world.a.send(message)
    world.network.cut("a", "b")
    for message in SMALL[5:10]:
        world.a.send(message)
    world.kernel.run_for(10)
    assert not world.b.heard
    world.network.heal("a", "b")
    world.kernel.run_for(30)
    assert messages(world.b) == SMALL[:10]


def test_a_broken_connection_leaves_the_line_and_others_go_on() -> None:
    world = World()
    world.connect()
    world.dial(world.a, "b")
    world.kernel.run_for(5)
    first, second = world.a.ends
    world.network.set_quality("a", "b", Quality(latency_s=(1.0, 1.0), bytes_per_s=100.0))
    for number, end in enumerate((first, first, second)):
        end.queue.append(SMALL[number])
        world.network.flush(end)
    world.network.close(second, "enough")
    world.network._break(first, "connection reset")
    world.kernel.run_for(10)
    assert messages(world.b) == [SMALL[2]]
    assert [reason for _, reason in world.b.closed] == ["connection reset", "enough"]


def test_a_large_message_takes_its_time_through_a_narrow_cable() -> None:
    world = degraded(bytes_per_s=100_000.0)
    began = world.kernel.now
    world.a.send(LARGE, SMALL[0])
    world.kernel.run_for(20)
    assert messages(world.b) == [SMALL[0], LARGE]
    assert world.b.heard[1][0] - began == pytest.approx(1.0 + 2 * CHUNK_BYTES / 1e5, rel=1e-3)


def test_common_qualities_are_of_all_cables_that_have_none_of_their_own() -> None:
    world = World()
    world.connect()
    own, common = Quality(latency_s=(3.0, 3.0)), Quality(latency_s=(5.0, 5.0))
    world.network.set_quality("a", "b", own)
    world.network.set_common_quality(common)
    assert world.network.quality("a", "b") == own
    assert world.network.quality("b", "a") == world.network.common_quality == common
    assert world.network.quality("b", "c") == common  # a cable of which nobody knew yet
    world.network.repair()
    assert {world.network.quality(*way).latency_s for way in (("a", "b"), ("b", "a"))} == {(1.0, 2.0)}


# ── processes that handle nothing ──


def test_what_comes_for_a_process_that_handles_nothing_waits_in_its_order() -> None:
    world = World()
    world.connect()
    world.network.hold("b")
    world.network.hold("b")
    world.a.send(SMALL[0])
    world.network.send_datagram("a", "b:1", b"c" * 16, Ack(1, "a", b"start", b""))
    world.kernel.run_for(5)
    world.a.send(SMALL[1])
    world.kernel.run_for(5)
    world.network.close(world.a.ends[0], "enough")
    world.kernel.run_for(100)  # no cable is cut: the kernel acknowledges everything
    assert not (world.b.heard or world.b.datagrams or world.b.closed)
    released = world.kernel.now
    world.network.release("b")
    world.network.release("b")
    assert world.b.heard == [(released, SMALL[0]), (released, SMALL[1])]
    assert [at for at, _, _, _ in world.b.datagrams] == [released]
    assert world.b.closed == [(released, "enough")]


def test_the_kernel_takes_connections_for_a_process_that_handles_nothing() -> None:
    world = World()
    world.network.hold("b")
    world.dial(world.a, "b")
    world.kernel.run_for(5)
    world.a.send(SMALL[0])
    world.kernel.run_for(5)
    assert not world.b.ends
    world.network.release("b")
    assert messages(world.b) == [SMALL[0]]


def test_connections_that_nobody_accepts_any_more_are_reset() -> None:
    world = World()
    world.network.hold("b")
    world.dial(world.a, "b")
    world.kernel.run_for(5)
    world.network.listen("b:1", None)
    world.network.release("b")
    world.kernel.run_for(5)
    assert not world.b.ends
    assert [reason for _, reason in world.a.closed] == ["connection reset"]


def test_a_connection_that_broke_before_it_was_accepted_is_not_accepted() -> None:
    world = World()
    world.network.hold("b")
    world.dial(world.a, "b")
    world.kernel.run_for(5)
    world.network.drop("a", "b")
    world.network.release("b")
    world.network.hold("b")
    world.dial(world.a, "b")
    world.kernel.run_for(5)
    world.network.close(world.a.ends[-1], "enough")
    world.network.release("b")
    world.kernel.run_for(5)
    assert [reason for _, reason in world.b.closed] == ["connection reset", "enough"]


def test_a_dialler_that_handles_nothing_learns_later_what_came_of_it() -> None:
    world = World()
    world.dial(world.a, "b")
    world.network.hold("a")
    world.kernel.run_for(10)
    assert world.b.ends
    assert not world.a.ends
    world.network.release("a")
    assert world.a.ends
    world.network.listen("b:1", None)
    world.dial(world.a, "b")
    world.network.hold("a")
    world.kernel.run_for(10)
    assert not world.failed
    world.network.release("a")
    assert [reason for _, reason in world.failed] == ["connection refused"]


def test_a_kernel_keeps_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("UNREAD_BYTES_MAX", 500), ("UNSENT_BYTES_MAX", 500), ("UNACCEPTED_MAX", 2)):
        monkeypatch.setattr(network, name, most)
    world = World()
    world.connect()
    world.network.hold("b")
    for number in range(UNREAD_DATAGRAMS_MAX + 10):
        world.network.send_datagram("a", "b:1", b"c" * 16, Ack(number, "a", b"start", b""))
    for number in range(3):
        world.a.send(ReadAnswer(number, 0, b"x" * 400))
    for _ in range(3):
        world.dial(world.b, "b")
    world.kernel.run_for(10)
    assert [reason for _, reason in world.a.closed] == ["the other side reads too slowly"]
    world.network.release("b")
    world.kernel.run_for(10)
    assert len(world.b.datagrams) == UNREAD_DATAGRAMS_MAX
    assert [message[0] for message in messages(world.b)] == [0, 1]
    assert len(world.b.ends) == 1 + 2 * 2  # both ends of two connections to itself
    assert [reason for _, reason in world.b.closed] == ["the other side hung up"]


# ── machines that are off ──


def test_a_machine_that_is_off_says_nothing_to_anybody() -> None:
    world = World()
    world.connect()
    off = world.kernel.now
    world.network.power_off("b")
    world.network.power_off("b")
    world.dial(world.a, "b")
    world.a.send(SMALL[0])
    world.kernel.run_for(14)
    assert not (world.a.closed or world.failed)
    world.kernel.run_for(10)
    assert world.a.closed == [(off + STALL_MAX_S, "connection timed out")]
    assert not world.b.closed


def test_a_machine_that_is_on_again_knows_nothing_of_its_connections() -> None:
    world = World()
    world.connect()
    world.network.power_off("b")
    world.kernel.run_for(5)
    on = world.kernel.now
    world.network.power_on("b")
    world.network.power_on("b")
    world.kernel.run_for(30)
    ((at, reason),) = world.a.closed
    assert reason == "connection reset"
    assert on < at <= on + 2.0
    assert not world.b.closed
