"""Links over real sockets, turned by hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from dyno.transport.link import GONE_AFTER_S, Link
from dyno.transport.reactor import Reactor
from dyno.wire.link import LinkCodec
from dyno.wire.messages import AskMembers, Message, Store

Sockets = tuple[socket.socket, socket.socket]
MIB = 1 << 20


class End:
    """One end of a connection, with what it heard."""

    def __init__(self, reactor: Reactor, sock: socket.socket, backlog_bytes_max: int = 64 * MIB) -> None:
        self.heard: list[Message] = []
        self.closed_because: list[str] = []
        self.link = Link(
            reactor,
            sock,
            on_messages=lambda _link, messages: self.heard.extend(messages),
            on_closed=lambda _link, reason: self.closed_because.append(reason),
            backlog_bytes_max=backlog_bytes_max,
        )


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@contextmanager
def connection() -> Iterator[Sockets]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with connection() as sockets:
        yield sockets


@pytest.fixture
def more_sockets() -> Iterator[Sockets]:
    with connection() as sockets:
        yield sockets


def turn_until(reactor: Reactor, done: Callable[[], bool]) -> None:
    """Turn the reactor until something holds. Loopback delivers at once, so the bound is generous."""
    for _ in range(100_000):
        if done():
            return
        reactor.turn()
        reactor.flush()
    raise AssertionError("it never came")


def test_messages_of_one_turn_arrive_in_order(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = (End(reactor, sock) for sock in sockets)
    sent = [AskMembers(number) for number in range(100)]
    for message in sent:
        near.link.send(message)
    assert reactor.has_dirty
    turn_until(reactor, lambda: len(far.heard) == 100)
    assert far.heard == sent
    assert not reactor.has_dirty


def test_a_peer_that_vanishes_without_a_word_is_found_out_by_the_system(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, _ = (End(reactor, sock) for sock in sockets)
    assert not near.link.closed
    sock = sockets[0]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        timeout_ms = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        idle, interval, probes = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert timeout_ms == (idle + interval * probes) * 1000 == GONE_AFTER_S * 1000


def test_both_directions_at_once(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = (End(reactor, sock) for sock in sockets)
    near.link.send(AskMembers(1))
    far.link.send(AskMembers(2))
    turn_until(reactor, lambda: bool(near.heard and far.heard))
    assert (near.heard, far.heard) == ([AskMembers(2)], [AskMembers(1)])


def test_a_large_message_holds_up_nobody(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = (End(reactor, sock) for sock in sockets)
    large = Store(1, 2, b"slot", b"key", bytes(8 * MIB))
    near.link.send(large)
    near.link.flush()
    near.link.send(AskMembers(7))
    turn_until(reactor, lambda: len(far.heard) == 2)
    assert far.heard == [AskMembers(7), large]


def test_a_peer_that_never_reads_is_cut_off(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near = End(reactor, sockets[0], backlog_bytes_max=4 * MIB)
    for number in range(1000):
        near.link.send(Store(number, 2, b"slot", b"key", bytes(100_000)))
        near.link.flush()
        if near.link.closed:
            break
    assert near.closed_because == ["the other side reads too slowly"]
    near.link.send(AskMembers(1))  # dropped, as by a broken network
    near.link.flush()
    near.link.close("again")
    assert len(near.closed_because) == 1


def test_the_other_side_closes(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    near = End(reactor, sockets[0])
    sockets[1].close()
    turn_until(reactor, lambda: near.link.closed)
    assert near.closed_because == ["closed by the other side"]


def test_a_reset_is_named(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    near = End(reactor, sockets[0])
    sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sockets[1].close()
    turn_until(reactor, lambda: near.link.closed)
    assert near.closed_because == ["Connection reset by peer"]


def test_garbage_closes_the_link(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    near = End(reactor, sockets[0])
    sockets[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    turn_until(reactor, lambda: near.link.closed)
    assert near.closed_because[0].startswith("not understood: ")


def test_a_stranger_may_send_small_frames_only(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = (End(reactor, sock) for sock in sockets)
    far.link.distrust(4096)
    near.link.send(Store(1, 2, b"slot", b"key", bytes(5000)))
    turn_until(reactor, lambda: far.link.closed)
    assert not far.heard


def test_a_welcomed_link_has_new_ears(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = (End(reactor, sock) for sock in sockets)
    later: list[Message] = []

    def listen(_link: Link, messages: Sequence[Message]) -> None:
        later.extend(messages)

    far.link.distrust(4096)
    far.link.welcome(listen)
    near.link.send(Store(1, 2, b"slot", b"key", bytes(5000)))
    turn_until(reactor, lambda: bool(later))
    assert not far.heard


def dial(reactor: Reactor, address: object) -> tuple[Link, list[str]]:
    heard: list[str] = []
    link = Link.dial(
        reactor,
        socket.AF_INET,
        address,  # type: ignore[arg-type]
        on_messages=lambda _link, _messages: None,
        on_closed=lambda _link, reason: heard.append(reason),
        on_connected=lambda _link: heard.append("connected"),
        backlog_bytes_max=MIB,
    )
    return link, heard


def test_dialling_connects_and_sends_what_was_queued(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link, heard = dial(reactor, server.getsockname())
        link.send(AskMembers(5))
        far_sock, _ = server.accept()
        far = End(reactor, far_sock)
        turn_until(reactor, lambda: bool(far.heard))
        assert heard == ["connected"]
        assert far.heard == [AskMembers(5)]
        link.close("done")
        far.link.close("done")


def test_dialling_a_closed_port_is_told_once(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    link, heard = dial(reactor, address)
    turn_until(reactor, lambda: link.closed)
    assert heard == ["Connection refused"]


def test_dialling_what_is_no_address_raises(reactor: Reactor) -> None:
    with pytest.raises(OSError, match=r"[a-z]"):
        dial(reactor, ("255.255.255.255", 1))


def test_a_link_closed_in_a_turn_is_passed_over_in_it(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    heard: list[str] = []
    links: list[Link] = []

    def close_both(_link: Link, _messages: Sequence[Message]) -> None:
        heard.append("a message")
        for link in links:
            link.close("both")

    links += [
        Link(
            reactor,
            sock,
            on_messages=close_both,
            on_closed=lambda _link, reason: heard.append(reason),
            backlog_bytes_max=MIB,
        )
        for sock in (near, far)
    ]
    for link in links:
        link.send(AskMembers(1))
    turn_until(reactor, lambda: len(heard) >= 3)
    assert heard == ["a message", "both", "both"]


def test_reactors_in_two_threads_do_not_mix_what_they_receive() -> None:
    """Receiving lets go of the interpreter lock: a buffer that both shared would be overwritten meanwhile."""
    failures: list[str] = []

    def echo(letter: bytes) -> None:
        reactor = Reactor()
        with socket.create_server(("127.0.0.1", 0)) as server:
            ends = socket.create_connection(server.getsockname()), server.accept()[0]
        near, far = (End(reactor, sock) for sock in ends)
        sent = Store(1, 2, letter, letter, letter * 60_000)
        for _ in range(300):
            near.link.send(sent)
            near.link.flush()
            while not far.heard and not far.link.closed:
                reactor.turn()
            if far.heard != [sent]:
                failures.append(f"{far.heard!r:.60} {far.closed_because}")
                break
            far.heard.clear()
        near.link.close("done")
        far.link.close("done")
        reactor.close()

    threads = [threading.Thread(target=echo, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ── what all links hold together ──


def test_links_that_send_large_messages_slowly_hold_no_more_than_all_may(
    sockets: Sockets, more_sockets: Sockets
) -> None:
    reactor = Reactor(held_bytes_max=3 * MIB)
    near, more = sockets[0], more_sockets[0]
    end, second = End(reactor, sockets[1]), End(reactor, more_sockets[1])
    pieces = pieces_of(Store(1, 2, b"slot", b"key", bytes(8 * MIB)))
    for piece in pieces[:8]:
        send_turning(reactor, near, piece)
    for piece in pieces[:3]:
        send_turning(reactor, more, piece)
    turn_until(reactor, lambda: reactor.ledger.total > 2.6 * MIB)
    for piece in pieces[8:10]:
        send_turning(reactor, near, piece)
    turn_until(reactor, lambda: end.link.closed)
    assert end.closed_because == ["all links together hold too much that is sent or read slowly"]
    assert not second.link.closed
    assert reactor.ledger.total < MIB
    second.link.close("done")
    assert reactor.ledger.total == 0
    reactor.close()


def test_a_large_message_that_is_complete_is_held_no_more(sockets: Sockets) -> None:
    reactor = Reactor(held_bytes_max=20 * MIB)
    near, far = (End(reactor, sock) for sock in sockets)
    near.link.send(Store(1, 2, b"slot", b"key", bytes(8 * MIB)))
    turn_until(reactor, lambda: bool(far.heard))
    near.link.send(AskMembers(1))
    turn_until(reactor, lambda: len(far.heard) == 2)
    assert reactor.ledger.total == 0


def test_links_that_read_slowly_hold_no_more_than_all_may(sockets: Sockets, more_sockets: Sockets) -> None:
    reactor = Reactor(held_bytes_max=6 * MIB)
    end, second = End(reactor, sockets[0]), End(reactor, more_sockets[0])
    second.link.send(Store(1, 2, b"slot", b"key", bytes(2 * MIB)))
    second.link.flush()
    for _ in range(20):
        end.link.send(Store(1, 2, b"slot", b"key", bytes(MIB)))
    end.link.flush()
    assert end.closed_because == ["all links together hold too much that is sent or read slowly"]
    assert not second.link.closed
    reactor.close()


def send_turning(reactor: Reactor, sock: socket.socket, data: bytes) -> None:
    """All of it, while the other end reads."""
    sock.setblocking(False)
    sent = 0
    while sent < len(data):
        try:
            sent += sock.send(data[sent:])
        except BlockingIOError:
            reactor.turn()


def pieces_of(message: Message) -> list[bytes]:
    codec = LinkCodec()
    codec.send(message)
    pieces = []
    while codec.pending:
        pieces.append(codec.drain())
    return pieces
