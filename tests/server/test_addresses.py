"""Names become socket addresses in the background, and no name that a stranger tells does any harm."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from dyno.server.addresses import LOOKUPS_MAX, NAMES_MAX, Addresses, format_address


class Book:
    """Addresses whose lookups begin when the test says so."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.log: list[str] = []
        self.begun: list[tuple[Any, ...]] = []
        self.addresses = Addresses(
            family=family,
            spawn=lambda *what: self.begun.append(what),
            log=lambda _level, text: self.log.append(text),
        )

    async def finish(self) -> None:
        """Run the lookups that were begun, to their end."""
        begun, self.begun = self.begun, []
        for look_up, *words in begun:
            await look_up(*words)


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (socket.AF_INET, "127.0.0.1:7101", ("127.0.0.1", 7101)),
        (socket.AF_INET6, "[::1]:7101", ("::1", 7101, 0, 0)),
        (socket.AF_INET6, "127.0.0.1:7101", ("::ffff:127.0.0.1", 7101, 0, 0)),
    ],
)
async def test_numbers_need_no_lookup(
    family: socket.AddressFamily, address: str, expected: tuple[object, ...]
) -> None:
    book = Book(family)
    assert book.addresses.lookup(address) == expected
    assert book.addresses.lookup(address) == expected
    assert not book.begun


async def test_a_name_is_looked_up_once_and_remembered() -> None:
    book = Book()
    assert book.addresses.lookup("localhost:7101") is None
    assert book.addresses.lookup("localhost:7101") is None
    assert len(book.begun) == 1
    await book.finish()
    assert book.addresses.lookup("localhost:7101") == ("127.0.0.1", 7101)
    assert not book.begun


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".x", "xn--a", "[::1]"])
async def test_a_name_that_cannot_be_one_is_merely_not_found(host: str) -> None:
    """Some make the resolver raise more than OSError; all of them may come in a stranger's datagram."""
    book = Book()
    assert book.addresses.lookup(f"{host}:1") is None
    await book.finish()
    assert book.addresses.lookup(f"{host}:1") is None
    assert not book.begun
    assert len(book.log) == 1
    assert "cannot resolve" in book.log[0]


async def test_so_many_lookups_run_at_once_and_no_more() -> None:
    book = Book()
    for number in range(LOOKUPS_MAX + 5):
        book.addresses.lookup(f"h{number}..x:1")
    assert len(book.begun) == LOOKUPS_MAX
    await book.finish()
    book.addresses.lookup("localhost:1")
    assert len(book.begun) == 1


async def test_the_oldest_names_are_forgotten() -> None:
    book = Book()

    async def meet(name: str) -> None:
        book.addresses.lookup(name)
        await book.finish()

    await meet("localhost:1")
    for number in range(NAMES_MAX):
        await meet(f"h{number}..x:1")
    assert book.addresses.lookup("localhost:1") is None
    assert len(book.begun) == 1


async def test_a_name_is_looked_up_again_after_a_while(autojump_clock: trio.testing.MockClock) -> None:
    book = Book()
    book.addresses.lookup("localhost:1")
    await book.finish()
    await trio.sleep(60)
    assert book.addresses.lookup("localhost:1") == ("127.0.0.1", 1)  # the old answer until there is a new one
    assert len(book.begun) == 1


async def test_a_closed_book_begins_no_lookup() -> None:
    """The nursery that would run it is gone by then."""
    book = Book()
    book.addresses.lookup("localhost:1")
    await book.finish()
    book.addresses.close()
    assert book.addresses.lookup("localhost:1") == ("127.0.0.1", 1)
    assert book.addresses.lookup("localhost:2") is None
    assert not book.begun


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 1), "127.0.0.1:1"),
        (("::1", 1, 0, 0), "[::1]:1"),
        (("::ffff:127.0.0.1", 1, 0, 0), "127.0.0.1:1"),
        (("fe80::1%lo", 1, 0, 1), "[fe80::1%lo]:1"),
    ],
)
def test_socket_addresses_are_written_as_people_do(address: tuple[Any, ...], text: str) -> None:
    assert format_address(address) == text
