"""A member's side of creating a bucket: may this name be reserved, and what became of it?

    Propose        a look, or firm: reserves the name, then looks     Proposed, a reservation being on disk
    Withdrawn      its coordinator gave up: the name is free again
    SwapBuckets    what another node knows; what is created there is created here
    AskFate        sent every second to all for each reservation of others, until one of these comes

A name is reserved only where no other properties of it are known and no record of it is stored or on its way
to the disk; whether one is stored is looked up partition by partition, a few at a time (`Survey`). From the
moment when it is reserved the bucket takes no data, so what the survey finds stays true.

What a node that joins is shown by those who assent, it takes as its own, reservations included. Nothing here
raises for what a remote sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from dyno.buckets.properties import DEFAULTS
from dyno.buckets.table import Entry, unpack
from dyno.config import COPIES
from dyno.placement.hashing import bucket_id
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import ASSENTED, BUSY, REFUSED, AskFate

if TYPE_CHECKING:
    from dyno.protocol.bucket_register import Register
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.replica import Replica

Judged: TypeAlias = Callable[[int, str, float, "Outbox"], object]  # (verdict, text, now, out)

FATE_INTERVAL_S = 1.0
PARTITIONS_PER_STEP = 64
SURVEYS_MAX = 64  # under way at once; past it, come again


class Survey:
    """Whether a node stores a record of a bucket that nobody created. then: told the verdict."""

    __slots__ = ("_bucket", "_partition", "_partitions", "_replica", "entry", "firm", "then")

    def __init__(self, entry: Entry, *, firm: bool, then: Judged, replica: Replica, partitions: int) -> None:
        self.entry = entry
        self.firm = firm
        self.then = then
        self._bucket = bucket_id(entry.name)
        self._replica = replica
        self._partition = 0
        self._partitions = partitions

    def step(self) -> bool | None:
        """Whether there is one; None when there is more to look at."""
        end = min(self._partition + PARTITIONS_PER_STEP, self._partitions)
        while self._partition < end:
            if self._replica.stores(self._bucket, COPIES, self._partition):
                return True
            self._partition += 1
        return False if end == self._partitions else None


class Reservations:
    """The reservations of one node, its own proposals' among them."""

    def __init__(self, *, register: Register, replica: Replica) -> None:
        self._register = register
        self._replica = replica
        self._surveys: dict[tuple[bytes, bool], Survey] = {}
        self._look_at = 0.0  # counts while there are surveys
        self._ask_at: float | None = None

    # ── proposals ──

    def propose(self, entry: Entry, *, ring: int, firm: bool, then: Judged, now: float, out: Outbox) -> None:
        """entry: reserved for its coordinator. `then` is called once, now or in a later tick; a doubled
        proposal takes the place of the first."""
        register, table = self._register, self._register.table
        held = table.get(entry.name)
        if held is not None and held.proposal == entry.proposal != b"":
            self._again(entry, firm, then, now, out)
            return
        verdict, text = self._objection(entry, held, ring)
        if verdict != ASSENTED:
            then(verdict, text, now, out)
            return
        if firm:
            doubtful = held is not None and (held.doubtful or held.properties != DEFAULTS)
            table.put(entry._replace(doubtful=doubtful))
            register.keep(out)
            self._watch(now)
        self._look(entry, firm, then, now, out)

    def withdrawn(self, name: str, proposal: bytes, out: Outbox) -> None:
        """Its coordinator says that nothing comes of a proposal."""
        entry = self._register.table.get(name)
        if entry is not None and entry.proposal == proposal != b"":
            self._surveys.pop((proposal, True), None)
            self._register.table.withdraw(name)
            self._register.keep(out)

    # ── what others know ──

    def heard(self, packed: bytes, now: float, out: Outbox) -> list[Entry]:
        """Another node's table. Gives what is in it, [] for a malformed one."""
        register = self._register
        if not register.membership.cluster:
            return []  # whose buckets would these be?
        try:
            entries = unpack(packed)
        except ProtocolError as error:
            out.events.append(("warning", f"a malformed table of buckets: {error}"))
            return []
        for entry in entries:
            if entry.is_created:
                self._take_created(entry, out)
            elif not register.membership.joined:
                self._take_reserved(entry, now, out)
        return entries

    def link_up(self, name: str, out: Outbox) -> None:
        """A node can be asked: what it knows may settle what is undecided here."""
        for entry in self._undecided():
            self._ask(entry, name, out)

    def start(self, now: float) -> None:
        self._watch(now)

    # ── time ──

    def tick(self, now: float, out: Outbox) -> None:
        """The next step of the oldest survey, and the questions that are due."""
        if self._surveys:
            key, survey = next(iter(self._surveys.items()))
            found = survey.step()
            if found is not None:
                del self._surveys[key]
                self._judge(survey, found, now, out)
            self._look_at = now
        if self._ask_at is not None and self._ask_at <= now:
            self._ask_at = None
            self._watch(now)
            for entry in self._undecided():
                for name in self._register.others():
                    self._ask(entry, name, out)

    def deadline(self) -> float | None:
        return self._look_at if self._surveys else self._ask_at

    # ── inside ──

    def _again(self, entry: Entry, firm: bool, then: Judged, now: float, out: Outbox) -> None:
        survey = self._surveys.get((entry.proposal, firm))
        if survey is not None:
            survey.then = then
        else:
            then(ASSENTED, "", now, out)

    def _objection(self, entry: Entry, held: Entry | None, ring: int) -> tuple[int, str]:
        register = self._register
        membership = register.membership
        if not membership.joined or membership.fingerprint != ring or register.is_abandoned(entry):
            return BUSY, f"{register.me} sees another ring"
        if membership.letting_in:
            return BUSY, f"{register.me} is letting {', '.join(membership.joining())} in"
        if held is not None and held.is_created:
            return BUSY, f"{register.me} knows bucket {entry.name!r} as created"
        if held is not None and not register.is_abandoned(held):
            return BUSY, register.why_not(held)
        if register.table.has_id_of(entry.name):
            return REFUSED, f"the name {entry.name!r} collides with another bucket's; choose another"
        if held is None and not register.has_room():
            return REFUSED, f"{register.me} has as many buckets as buckets_max={register.buckets_max} allows"
        if len(self._surveys) >= SURVEYS_MAX:
            return BUSY, f"{register.me} is looking into other buckets"
        return ASSENTED, ""

    def _look(self, entry: Entry, firm: bool, then: Judged, now: float, out: Outbox) -> None:
        """Whether there is data, where that matters."""
        survey = Survey(
            entry,
            firm=firm,
            then=then,
            replica=self._replica,
            partitions=self._register.membership.partitions,
        )
        if entry.properties == DEFAULTS or not self._replica.holds_data:
            self._judge(survey, False, now, out)
        elif self._replica.gathers(bucket_id(entry.name)):
            self._judge(survey, True, now, out)
        else:
            self._surveys[entry.proposal, firm] = survey
            self._look_at = now

    def _judge(self, survey: Survey, found: bool, now: float, out: Outbox) -> None:
        entry = survey.entry
        if not found:
            survey.then(ASSENTED, "", now, out)
            return
        if survey.firm:
            self.withdrawn(entry.name, entry.proposal, out)
        text = f"bucket {entry.name!r} holds data, so it keeps the defaults: {DEFAULTS}"
        survey.then(REFUSED, text, now, out)

    def _take_created(self, entry: Entry, out: Outbox) -> None:
        register, table = self._register, self._register.table
        held = table.get(entry.name)
        if held is not None and held.is_created:
            if held != entry:
                text = (
                    f"bucket {entry.name!r} was created with {held.properties}, and with {entry.properties}"
                )
                out.events.append(("error", text))
        elif not table.has_id_of(entry.name):
            if held is not None:
                self._surveys.pop((held.proposal, True), None)
            table.put(entry)
            register.keep(out)

    def _take_reserved(self, entry: Entry, now: float, out: Outbox) -> None:
        """By a node that joins. Of two reservations of one name neither can come to anything while the other
        is held by a member; so either will do, as long as a doubt stays a doubt."""
        register, table = self._register, self._register.table
        held = table.get(entry.name)
        if held is None and not table.has_id_of(entry.name):
            table.put(entry)
        elif held is not None and entry.doubtful and not (held.is_created or held.doubtful):
            table.put(held._replace(doubtful=True))
        else:
            return
        register.keep(out)
        self._watch(now)

    def _undecided(self) -> list[Entry]:
        """Reservations that another node has to settle."""
        mine = self._register.directory
        return [entry for entry in self._register.table.reserved() if entry.coordinator not in (b"", mine)]

    def _ask(self, entry: Entry, name: str, out: Outbox) -> None:
        self._register.ask(name, AskFate(entry.name, entry.proposal, entry.coordinator), out)

    def _watch(self, now: float) -> None:
        if self._ask_at is None and self._undecided():
            self._ask_at = now + FATE_INTERVAL_S
