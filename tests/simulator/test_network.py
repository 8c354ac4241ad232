"""Connections that keep order, datagrams that do not, and cables to cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dyno.config import CHUNK_BYTES
from dyno.simulator.kernel import Kernel
from dyno.simulator.network import End, Network
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
    for number in range(40):
        world.a.send(SMALL[number % 50], SMALL[(number + 1) % 50])
        world.a.send(LARGE)
    world.kernel.run_for(100)
    assert len(world.b.heard) == 120


def test_what_the_codec_would_not_carry_is_found() -> None:
    world = World()
    world.connect()
    with pytest.raises(ProtocolError, match="must be int, not bool"):
        for _ in range(20):
            world.a.send(Stored(1, True))
    with pytest.raises(ProtocolError, match="must be int, not bool"):
        for _ in range(20):
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
