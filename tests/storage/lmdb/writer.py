"""A process that writes batches into a data directory and says on stdout what was acknowledged.

    python writer.py DIR BATCHES

"open COMMIT" comes first, then "ack COMMIT" for each batch. A batch that fails ends the process: it says
"failed ERROR: text", tries once more and reads, and says how both went. Run, killed and given failing system
calls by test_crash.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

from dyno.storage.engine import StorageBroken, StorageFull
from dyno.storage.lmdb.directory import open_directory

RECORDS = 5


def batch(number: int) -> dict[bytes, bytes | None]:
    """New records, some over a page, and one that every batch overwrites."""
    records: dict[bytes, bytes | None] = {b"last": number.to_bytes(8, "big")}
    for index in range(RECORDS - 1):
        key = (number * 7919 % 65536).to_bytes(2, "big") + bytes([index]) + number.to_bytes(4, "big")
        records[key] = key * (50 if index else 700)
    return records


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")  # one system call, so that a trace shows when


def main(path: str, batches: int) -> None:
    directory = open_directory(path, size_max=1 << 32, reserve_bytes=0)
    engine = directory.engine
    say(f"open {engine.commit_number}")
    for _ in range(batches):
        number = engine.commit_number + 1
        records, facts = batch(number), {"batch": number.to_bytes(8, "big")}
        try:
            engine.write_batch(records, facts)
        except (StorageBroken, StorageFull) as error:
            say(f"failed {type(error).__name__}: {error}")
            again = outcome(partial(engine.write_batch, records, facts))
            say(f"again {again}, read {outcome(partial(engine.get, b'last'))}")
            return
        say(f"ack {number}")
    directory.close()


def outcome(attempt: Callable[[], object]) -> str:
    try:
        return str(attempt())
    except (StorageBroken, StorageFull) as error:
        return type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
