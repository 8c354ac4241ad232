"""`dyno keys`: every live key of a bucket, one per line, written as the nodes tell them.

A key that is text is written as its UTF-8, any other as its bytes, exactly: so is one that holds a newline,
and takes more than one line. For programs there is --json, one JSON value per line: a string, or
{"base64": …} for what is no text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dyno.cli import options, output
from dyno.cli.options import BucketName, Nodes, ReadQuorum, Version
from dyno.cli.session import converse

if TYPE_CHECKING:
    from dyno import Client

_AsJsonLines = Annotated[
    bool, typer.Option("--json", help='One JSON value per line; bytes as {"base64": …}.')
]


def keys(
    bucket: BucketName,
    r: ReadQuorum = None,
    as_json: _AsJsonLines = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Print every key of a bucket that has a value, one per line.

    They come in no order that means anything, and as they are found. Keys that are written or deleted
    meanwhile may show or not.
    """
    options.utf8(bucket, "BUCKET")
    quorum = options.quorum(r, "-r")

    async def write(client: Client) -> None:
        found = client.bucket(bucket).keys(r=quorum)
        while page := await found.next_page():
            output.raw(b"".join([_line(key, as_json) for key in page]))
            output.flush()

    converse(node, write)


def _line(key: str | bytes, as_json: bool) -> bytes:
    if as_json:
        from dyno.cli import shapes

        return shapes.text_of(shapes.shape(key)).encode() + b"\n"
    return (key if isinstance(key, bytes) else key.encode()) + b"\n"
