"""The options that several commands share, and what their words mean.

In: words as typed, and $DYNO_NODES. Out: addresses, quorums, tokens and texts that the client takes.
Whatever cannot be right is refused with InvalidRequest, in a sentence that names the option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeAlias

import typer

from dyno.cli import output
from dyno.errors import InvalidRequest

DEFAULT_NODE = "127.0.0.1:7101"
NODES_VARIABLE = "DYNO_NODES"

_NUMBER = re.compile(r"-?[0-9]{1,9}")
_WORDS = {"one": "a single replica", "quorum": "more than half of the replicas", "all": "every replica"}


def completion(words: Mapping[str, str]) -> Callable[[str], list[tuple[str, str]]]:
    """Completes one of these words in the shell, which may show what they mean beside them."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return [(word, meaning) for word, meaning in words.items() if word.startswith(incomplete)]

    return complete


complete_quorum = completion(_WORDS)


def _show_version(wanted: bool) -> None:
    if wanted:
        from dyno._version import __version__

        output.line(f"dyno {__version__}")
        raise typer.Exit(0)


Version: TypeAlias = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
]
Nodes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="HOST:PORT",
        help=f"A node to talk to; may be repeated. By default ${NODES_VARIABLE}, then {DEFAULT_NODE}.",
    ),
]
BucketName: TypeAlias = Annotated[str, typer.Argument(metavar="BUCKET", help="The set of keys.")]
KeyText: TypeAlias = Annotated[str, typer.Argument(metavar="KEY", help="The key within the bucket.")]
ReadQuorum: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "-r",
        metavar="R",
        help="Replicas that must answer a read: a number, one, quorum or all.",
        autocompletion=complete_quorum,
    ),
]
WriteQuorum: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "-w",
        metavar="W",
        help="Replicas that must store a write: a number, one, quorum or all.",
        autocompletion=complete_quorum,
    ),
]
ContextText: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="TOKEN", help="What a get or put printed: replaces exactly what that one saw."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def addresses(given: Sequence[str] | None) -> tuple[str, ...]:
    """The nodes to talk to: of the options, or the environment, or the default."""
    from dyno.wire.address import parse_address

    where, found = "--node", list(given or ())
    if not found:
        where, found = f"${NODES_VARIABLE}", os.environ.get(NODES_VARIABLE, "").replace(",", " ").split()
    for address in found:
        try:
            parse_address(address)
        except ValueError as error:
            raise InvalidRequest(f"{where}: {error}, for example {DEFAULT_NODE}") from None
    return tuple(found) or (DEFAULT_NODE,)


def quorum(text: str | None, option: str) -> int | str | None:
    """A quorum as the client takes it; which numbers are possible it knows best."""
    if text is None or text in _WORDS:
        return text
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"{option}: {text[:40]!r} is not a quorum; give a number, one, quorum or all")
    return int(text)


def whole_number(text: str, option: str, least: int, most: int) -> int:
    """A whole number within bounds."""
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise InvalidRequest(f"{option} is a number from {least} to {most}, not {text[:40]!r}")


def token(text: str | None) -> bytes | None:
    """The context of a TOKEN."""
    if text is None:
        return None
    from dyno.causality.token import from_text

    try:
        return from_text(text)
    except (InvalidRequest, UnicodeEncodeError):
        raise InvalidRequest(
            "--context: this is not a whole token; copy all of what get or put printed"
        ) from None


def utf8(text: str, what: str) -> str:
    """Refuses an argument whose bytes the shell passed are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        advice = (
            "give such bytes on stdin, with - as the VALUE" if what == "VALUE" else "use the Python client"
        )
        raise InvalidRequest(f"{what} {text[:40]!a} is not valid UTF-8; {advice}") from None
    return text
