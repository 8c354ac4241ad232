"""What the session wants to happen: filled by the machine, emptied by the shell that runs it.

One outbox serves a client for life and is handed to every verb; the shell carries out what is in it once
per turn of its loop and empties it. What has not been taken out yet when a link breaks was surely not sent,
which the session makes use of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.wire.messages import ClientRequest


class SessionOutbox:
    """connect: addresses to dial once; each ends in `link_up` or `link_down`. disconnect: addresses whose
    link, or dial, is to be dropped without a report. sends: (address, request). finished: calls that have
    their result or error now. Carried out in this order: disconnect, connect, sends, finished."""

    __slots__ = ("connect", "disconnect", "finished", "sends")

    def __init__(self) -> None:
        self.connect: list[str] = []
        self.disconnect: list[str] = []
        self.sends: list[tuple[str, ClientRequest]] = []
        self.finished: list[Call] = []
