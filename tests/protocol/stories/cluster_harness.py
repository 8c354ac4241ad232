"""What the stories share: users who ask one certain node, and a look at the disks."""

from __future__ import annotations

from typing import Any

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.record import Record
from dyno.simulator.simulation import Simulation
from dyno.simulator.stranger import Stranger
from dyno.storage.cell import record_of
from dyno.wire.messages import DEFAULT, Delete, Done, Failed, Found, Get, Message, Put


class User:
    """Somebody who asks one certain node, so that this node coordinates what it owns."""

    def __init__(self, sim: Simulation, node: str, bucket: str = "bucket") -> None:
        self.sim = sim
        self.node = node
        self.bucket = bucket
        self.link: Stranger = sim.stranger(node)
        self._last_id = 0

    def get(self, key: bytes, *, r: int = DEFAULT, pr: int = DEFAULT) -> Record:
        found = self.ask_get(key, r=r, pr=pr)
        assert isinstance(found, Found), found
        return Record.unpack(found.record) if found.record else Record.EMPTY

    def ask_get(self, key: bytes, *, r: int = DEFAULT, pr: int = DEFAULT) -> Message:
        return self.ask(Get(self._next_id(), self.bucket, key, r, pr, 5000, False))

    def put(self, key: bytes, value: bytes, context: bytes = b"", **options: Any) -> bytes:
        """The token of the write."""
        done = self.ask_put(key, value, context, **options)
        assert isinstance(done, Done), done
        return self.token(key, Context.unpack(done.context))

    def ask_put(
        self,
        key: bytes,
        value: bytes,
        context: bytes = b"",
        *,
        conditional: bool = False,
        w: int = DEFAULT,
        pw: int = DEFAULT,
    ) -> Message:
        return self.ask(self.put_request(key, value, context, conditional=conditional, w=w, pw=pw))

    def put_request(
        self,
        key: bytes,
        value: bytes,
        context: bytes = b"",
        *,
        conditional: bool = False,
        w: int = DEFAULT,
        pw: int = DEFAULT,
    ) -> Put:
        number = self._next_id()
        request = self._request_id()
        return Put(number, self.bucket, key, value, context, conditional, w, pw, request, 5000, False)

    def delete(self, key: bytes, context: bytes = b"", *, w: int = DEFAULT) -> bytes:
        done = self.ask_delete(key, context, w=w)
        assert isinstance(done, Done), done
        return self.token(key, Context.unpack(done.context)) if done.context else b""

    def ask_delete(self, key: bytes, context: bytes = b"", *, w: int = DEFAULT) -> Message:
        return self.ask(self.delete_request(key, context, w=w))

    def delete_request(self, key: bytes, context: bytes = b"", *, w: int = DEFAULT) -> Delete:
        number = self._next_id()
        request = self._request_id()
        return Delete(number, self.bucket, key, context, DEFAULT, DEFAULT, w, DEFAULT, request, 5000, False)

    def ask(self, request: Message) -> Message:
        answers = self.link.ask(request)
        assert len(answers) == 1, (answers, self.link.closed)
        assert answers[0].id == request.id  # type: ignore[union-attr]
        return answers[0]

    def token(self, key: bytes, context: Context) -> bytes:
        cluster = self.sim.machines[self.node].node.membership.cluster
        return token.encode(context, cluster=cluster, bucket=self.bucket, key=key)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _request_id(self) -> bytes:
        return f"{self.link.machine.removeprefix('stranger-')} {self._last_id}".encode().ljust(16, b".")


def slot_of(sim: Simulation, key: bytes, bucket: str = "bucket") -> tuple[bytes, list[str]]:
    """The slot of a key, and its owners by name."""
    request = Get(1, bucket, key, DEFAULT, DEFAULT, 1, False)
    slots = {name: machine.node.slots_read_by(request) for name, machine in sim.machines.items()}
    owners = [name for name, own in slots.items() if own]
    (slot,) = slots[owners[0]]
    return slot, owners


def on_disk(sim: Simulation, key: bytes) -> dict[str, bytes]:
    """The packed record of a key on every node's disk, b"" where there is none."""
    slot, _ = slot_of(sim, key)
    cells = {name: machine.engine.get(slot) for name, machine in sim.machines.items()}
    return {name: record_of(cell) if cell else b"" for name, cell in cells.items()}


def values(record: Record) -> list[bytes]:
    return sorted(sibling.value for sibling in record.siblings)


def failed(answer: Message) -> Failed:
    assert isinstance(answer, Failed), answer
    return answer
