"""`dyno put`, `dyno get`, `dyno delete`: one key each.

put and delete are silent unless --json asks for context and replicas. get prints the value as it is, siblings
one per line with their context (exit 3), and says on stderr when there is nothing (exit 1).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dyno.cli import options, output
from dyno.cli.options import AsJson, BucketName, ContextText, KeyText, Nodes, ReadQuorum, Version, WriteQuorum
from dyno.cli.outcome import NOT_FOUND, SIBLINGS, one_line, say
from dyno.cli.session import converse
from dyno.errors import InvalidRequest

if TYPE_CHECKING:
    from dyno import Client, PutResult, Record

_Value = Annotated[
    str, typer.Argument(metavar="VALUE", help="Stored as text; - stores the bytes of standard input.")
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Read first, and replace all values that this read saw.")
]


def put(
    bucket: BucketName,
    key: KeyText,
    value: _Value,
    r: ReadQuorum = None,
    w: WriteQuorum = None,
    context: ContextText = None,
    overwrite: _Overwrite = False,
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Store a value under a key.

    Without --context or --overwrite it is written blind: beside values that are there already it becomes a
    sibling.
    """
    if overwrite and context is not None:
        raise InvalidRequest("--overwrite reads a context of its own; give it or --context, not both")
    options.utf8(bucket, "BUCKET")
    options.utf8(key, "KEY")
    reads, writes = options.quorum(r, "-r"), options.quorum(w, "-w")
    token = options.token(context)
    stored = _standard_input() if value == "-" else options.utf8(value, "VALUE")

    async def write(client: Client) -> PutResult:
        handle = client.bucket(bucket, r=reads, w=writes)
        seen = (await handle.get(key)).context if overwrite else token
        return await handle.put(key, stored, context=seen)

    _written(converse(node, write), as_json)


def get(
    bucket: BucketName,
    key: KeyText,
    r: ReadQuorum = None,
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Print the value of a key.

    Concurrent values (siblings) are printed one per line, followed by "context: TOKEN"; a put with that
    --context replaces them. Exit code 1: no value, 3: siblings.
    """
    options.utf8(bucket, "BUCKET")
    options.utf8(key, "KEY")
    quorum = options.quorum(r, "-r")

    async def read(client: Client) -> Record:
        return await client.bucket(bucket, r=quorum).get(key)

    _found(converse(node, read), f"{bucket}/{key}", as_json)


def delete(
    bucket: BucketName,
    key: KeyText,
    r: ReadQuorum = None,
    w: WriteQuorum = None,
    context: ContextText = None,
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Delete a key.

    Deletes what is there now, or with --context exactly what that get or put saw. A missing key is no error.
    """
    options.utf8(bucket, "BUCKET")
    options.utf8(key, "KEY")
    reads, writes = options.quorum(r, "-r"), options.quorum(w, "-w")
    token = options.token(context)

    async def remove(client: Client) -> PutResult:
        return await client.bucket(bucket, r=reads, w=writes).delete(key, context=token)

    _written(converse(node, remove), as_json)


def _written(result: PutResult, as_json: bool) -> None:
    if as_json:
        output.document(_with_replicas({"context": _text(result.context)}, result))


def _found(record: Record, what: str, as_json: bool) -> None:
    """Print what was read, and exit with 1 or 3 when it is not exactly one value."""
    from dyno.cli import shapes

    sys.set_int_max_str_digits(0)  # an int may have a million bytes, and is printed all the same
    siblings = record.siblings
    if as_json:
        found = {
            "exists": record.exists,
            "siblings": [shapes.shape(sibling) for sibling in siblings],
            "context": _text(record.context),
        }
        output.document(_with_replicas(found, record))
    elif len(siblings) == 1:
        output.raw(shapes.alone(siblings[0]))
    elif siblings:
        for sibling in siblings:
            output.line(shapes.among_siblings(sibling))
        output.line(f"context: {_text(record.context)}")
    if not siblings:
        say(f"dyno: there is no value at {one_line(what)}")
        raise typer.Exit(NOT_FOUND)
    if len(siblings) > 1:
        raise typer.Exit(SIBLINGS)


def _with_replicas(document: dict[str, Any], result: Record | PutResult) -> dict[str, Any]:
    replicas = result.replicas
    document["replicas"] = {"answered": list(replicas.answered), "fallbacks": list(replicas.fallbacks)}
    return document


def _text(context: bytes) -> str:
    from dyno.causality.token import to_text

    return to_text(context)


def _standard_input() -> bytes:
    """All of it, up to what no cluster would take."""
    from dyno.config import RECORD_BYTES_MAX

    if sys.stdin is None:
        raise InvalidRequest("VALUE is -, but standard input is closed")
    data = sys.stdin.buffer.read(RECORD_BYTES_MAX + 1)
    if len(data) > RECORD_BYTES_MAX:
        raise InvalidRequest(
            f"standard input has more than {RECORD_BYTES_MAX >> 20} MiB, the most that a value can have"
        )
    return data
