"""A cluster inside a program: three nodes, a bucket of its own, batches, a listing, and a node that stops.

    python examples/embedded.py

Each node has a name, a port and a directory of its own; here they share one process, in production each has a
machine. The block of a node begins once it has joined and serves, and its end is a clean stop, so a program
that has something to do beside its store starts it like any other resource.
"""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import trio

import dyno

SENSORS = [f"sensor-{number:02}" for number in range(20)]


async def measure(client: dyno.Client) -> None:
    # Two of five copies answer a read, all of three members have to take a write: w is fixed for the bucket.
    await client.create_bucket("readings", n=5, r=2, w="all")
    readings = client.bucket("readings")

    # Many keys in one call. An entry that failed has its reason in .error, and the others are stored.
    stored = await readings.put_many({name: {"celsius": 20.5, "samples": 1} for name in SENSORS})
    assert all(result.error is None for result in stored.values())
    print("stored:  ", len(stored), "readings, each on", len(stored[SENSORS[0]].replicas.answered), "nodes")

    records = await readings.get_many([*SENSORS[:3], "sensor-99"])
    print("read:    ", {name: record.value["celsius"] for name, record in records.items() if record.exists})
    print("missing: ", [name for name, record in records.items() if not record.exists])

    await readings.delete("sensor-07")
    listing = readings.keys()  # streamed, in bounded memory however many there are
    print("listed:  ", len([key async for key in listing]), "keys")


async def go_on(client: dyno.Client) -> None:
    # One node has stopped. A quorum is left, so buckets that do not ask for all of them go on.
    notes = client.bucket("notes")
    stored = await notes.put("last", "two are enough")
    print("written: ", (await notes.get("last")).value, "on", len(stored.replicas.answered), "nodes")


async def main() -> None:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first = await stack.enter_async_context(
            dyno.Node(
                name="n1", listen="127.0.0.1:0", data=directory / "n1", config={"value_bytes_max": 1 << 16}
            )
        )
        second = await stack.enter_async_context(
            dyno.Node(name="n2", listen="127.0.0.1:0", data=directory / "n2", join=[first.address])
        )
        client = await stack.enter_async_context(dyno.connect(first.address, second.address))
        async with dyno.Node(name="n3", listen="127.0.0.1:0", data=directory / "n3", join=[first.address]):
            print("members: ", [member["name"] for member in (await client.status())["members"]])
            await measure(client)
        await go_on(client)


if __name__ == "__main__":
    trio.run(main)
