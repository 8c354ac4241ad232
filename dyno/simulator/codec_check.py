"""What crosses the simulated network as values could have crossed a real one as bytes.

In: a frame's messages, or a datagram. An assertion fails where the codec makes something else of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.wire import datagram as datagrams
from dyno.wire.link import LinkCodec

if TYPE_CHECKING:
    from dyno.wire.messages import Datagram, Message


def check_frame(messages: list[Message]) -> None:
    """Sent over a link, in chunks where they are large."""
    sender, receiver = LinkCodec(), LinkCodec()
    for message in messages:
        sender.send(message)
    received = receiver.feed(sender.drain())
    while sender.pending:
        received += receiver.feed(sender.drain())
    assert received == messages, f"{messages} came out of the codec as {received}"


def check_datagram(cluster: bytes, message: Datagram) -> None:
    decoded = datagrams.decode(cluster, datagrams.encode(cluster, message))
    assert decoded == message, f"{message} came out of the codec as {decoded}"
