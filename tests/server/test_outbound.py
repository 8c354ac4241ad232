"""Links that a node dials: real sockets, the clock by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random
from types import SimpleNamespace

import pytest

from dyno.config import Config
from dyno.server.addresses import Addresses
from dyno.server.outbound import Outbound
from dyno.transport.reactor import Reactor
from dyno.wire.link import LinkCodec
from dyno.wire.messages import PROTOCOL_VERSION, AskMembers, Hello, Members, Message, Refuse

HELLO = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "peer", b"c" * 16, 64, "n2", b"d" * 16, b"s" * 8, "")


class Dialler:
    """An `Outbound` and the node at the other end."""

    def __init__(self) -> None:
        self.now = 100.0
        self.config = Config()
        self.reactor = Reactor()
        self.events: list[str] = []
        self.heard: list[Message] = []
        self.log: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self._accepted: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.outbound = Outbound(
            core=SimpleNamespace(hello=lambda: HELLO),  # type: ignore[arg-type]
            config=self.config,
            reactor=self.reactor,
            addresses=Addresses(
                family=socket.AF_INET, spawn=lambda *_: None, log=lambda _level, text: self.log.append(text)
            ),
            family=socket.AF_INET,
            random=Random(1),
            now=lambda: self.now,
            up=lambda _address, hello: self.events.append(f"up {hello.name}"),
            down=lambda _address: self.events.append("down"),
            refused=lambda _address, refuse: self.events.append(f"refused {refuse.text}"),
            answer=lambda _address, message: self.heard.append(message),
            log=lambda _level, text: self.log.append(text),
        )
        self.outbound.connect(self.address)

    def until(self, event: str) -> None:
        """Turn until this event is the last one. Loopback delivers at once, so the bound is generous."""
        for _ in range(100_000):
            if self.events[-1:] == [event]:
                return
            self.reactor.turn()
            self.reactor.flush()
        raise AssertionError(f"it never came to {event!r}: {self.events}")

    def dial(self) -> float:
        """Let it dial when it wants to; gives how long it waited."""
        before = self.now
        deadline = self.outbound.deadline()
        assert deadline is not None
        self.now = max(before, deadline)
        self.outbound.tick(self.now)
        return self.now - before

    def accept(self, *answers: Message) -> socket.socket:
        """The other node takes the link and says this."""
        while True:
            self.reactor.turn()
            try:
                sock, _ = self._server.accept()
                break
            except BlockingIOError:
                continue
        sock.setblocking(True)
        self._accepted.append(sock)
        codec = LinkCodec()
        for answer in answers:
            codec.send(answer)
        sock.sendall(codec.drain())
        return sock

    def close(self) -> None:
        self.outbound.close()
        for sock in (self._server, *self._accepted):
            sock.close()
        self.reactor.close()


@pytest.fixture
def dialler() -> Iterator[Dialler]:
    dialler = Dialler()
    yield dialler
    dialler.close()


def test_an_answer_in_the_first_breath_is_heard(dialler: Dialler) -> None:
    dialler.dial()
    dialler.accept(HELLO, Members(1, b"", 0, 0, b""))
    dialler.until("up n2")
    assert dialler.heard == [Members(1, b"", 0, 0, b"")]
    dialler.outbound.send(dialler.address, AskMembers(1))
    dialler.outbound.disconnect(dialler.address)
    assert dialler.events == ["up n2", "down"]


def test_a_link_that_lasted_is_dialled_again_soon(dialler: Dialler) -> None:
    for _ in range(5):
        assert dialler.dial() <= 1.5 * dialler.config.reconnect_min_s
        sock = dialler.accept(HELLO)
        dialler.until("up n2")
        dialler.now += dialler.config.reconnect_max_s
        sock.close()
        dialler.until("down")


def test_a_node_that_takes_every_link_and_closes_it_is_dialled_more_and_more_rarely(
    dialler: Dialler,
) -> None:
    waits = []
    for _ in range(10):
        waits.append(dialler.dial())
        sock = dialler.accept(HELLO)
        dialler.until("up n2")
        sock.close()
        dialler.until("down")
    assert sum(waits) > 3 * dialler.config.reconnect_max_s
    assert max(waits) <= 1.5 * dialler.config.reconnect_max_s
    assert len([text for text in dialler.log if text.startswith("no link")]) == 1  # and said once


@pytest.mark.parametrize("answer", [AskMembers(1), Refuse("cluster", "elsewhere")])
def test_what_is_no_hello_ends_the_link(dialler: Dialler, answer: Message) -> None:
    dialler.dial()
    sock = dialler.accept(answer)
    sock.settimeout(5)
    while dialler.outbound.deadline() == dialler.now + dialler.config.handshake_timeout_s:
        dialler.reactor.turn()
        dialler.reactor.flush()
    assert "up n2" not in dialler.events
    assert ("refused elsewhere" in dialler.events) == isinstance(answer, Refuse)


def test_a_node_that_says_nothing_is_given_up(dialler: Dialler) -> None:
    dialler.dial()
    dialler.accept()
    waited = dialler.dial()
    assert waited == dialler.config.handshake_timeout_s
    assert dialler.log[-1].endswith("no hello in time")
    assert dialler.events == []
