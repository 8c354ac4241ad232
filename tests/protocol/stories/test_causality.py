"""Who overwrites whom, through real coordinators: the vectors that DVVSet was tested with, in dots."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.context import Context
from dyno.causality.record import Record
from dyno.errors import ConflictError, InvalidRequest
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, Done
from tests.protocol.stories.cluster_harness import User, failed, on_disk, values

Simulate = Callable[..., Simulation]
KEY = b"key"


class Story:
    """Two coordinators a and b of one key; every write is on all nodes before the next one begins."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.users = {"a": User(sim, "n1"), "b": User(sim, "n2")}
        starts = {
            name: sim.machines[node].node.membership.me.start for name, node in (("a", "n1"), ("b", "n2"))
        }
        self._name_of = {start: name for name, start in starts.items()}
        self._actors: dict[str, bytes] = {}

    def put(self, at: str, value: str, *read: str) -> None:
        """read: the dots that its author had read, as "a1"."""
        context = Context.EMPTY
        for dot in read:
            actor, upto = self._actors[dot[0]], int(dot[1:])
            context = context.union(Context({actor: upto}, {}))
        user = self.users[at]
        token = user.token(KEY, context)
        done = user.ask_put(KEY, value.encode(), token, w=ALL)
        assert isinstance(done, Done), done
        for sibling in user.get(KEY).siblings:
            self._actors.setdefault(self._name_of[sibling.dot.actor[:8]], sibling.dot.actor)

    def state(self) -> str:
        """As SCENARIOS writes it: "a2:v2 b1:v4 | a:2 b:1", the same on every disk."""
        disks = on_disk(self.sim, KEY)
        assert len(set(disks.values())) == 1
        record = Record.unpack(disks["n1"])
        live = sorted(
            f"{self._name_of[dot.actor[:8]]}{dot.counter}:{value.decode()}"
            for dot, _, value in record.siblings
        )
        read = [f"{name}:{record.context.highest(actor)}" for name, actor in sorted(self._actors.items())]
        return f"{' '.join(live)} | {' '.join(read)}"


@pytest.fixture
def story(simulate: Simulate) -> Story:
    return Story(simulate(3))


def test_vectors_one_to_three_a_chain_of_writes_that_read_each_other(story: Story) -> None:
    story.put("a", "v1")
    assert story.state() == "a1:v1 | a:1"
    story.put("a", "v2", "a1")
    assert story.state() == "a2:v2 | a:2"
    story.put("b", "v3", "a2")
    assert story.state() == "b1:v3 | a:2 b:1"


def test_vector_four_a_stale_write_elsewhere_is_a_sibling(story: Story) -> None:
    story.put("a", "v1")
    story.put("a", "v2", "a1")
    story.put("b", "v4", "a1")
    assert story.state() == "a2:v2 b1:v4 | a:2 b:1"


def test_vector_five_a_stale_write_at_the_same_coordinator_is_a_sibling(story: Story) -> None:
    story.put("a", "v1")
    story.put("a", "v2", "a1")
    story.put("a", "v5", "a1")
    assert story.state() == "a2:v2 a3:v5 | a:3"


def test_vector_six_blind_writes_and_one_that_read_the_first(story: Story) -> None:
    story.put("a", "v1")
    story.put("a", "v2")
    assert story.state() == "a1:v1 a2:v2 | a:2"
    story.put("a", "v3", "a1")
    assert story.state() == "a2:v2 a3:v3 | a:3"


def test_vector_seven_the_context_of_ones_own_put_covers_nothing_unread(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n1")
    mine = one.put(KEY, b"mine 1")
    other.put(KEY, b"other")
    mine = one.put(KEY, b"mine 2", mine)
    one.put(KEY, b"mine 3", mine)
    assert values(one.get(KEY)) == [b"mine 3", b"other"]


@pytest.mark.parametrize("coordinators", [("n1", "n1"), ("n1", "n2")])
def test_vector_eight_a_hundred_rounds_by_turns_leave_two_siblings(
    simulate: Simulate, coordinators: tuple[str, str]
) -> None:
    sim = simulate(3)
    users = [User(sim, node) for node in coordinators]
    tokens = [b"", b""]
    for number in range(100):
        for who, user in enumerate(users):
            tokens[who] = user.put(KEY, b"%d %d" % (who, number), tokens[who])
    record = users[0].get(KEY, r=ALL)
    assert values(record) == [b"0 99", b"1 99"]
    assert len(record.pack()) < 300


def test_vector_nine_a_context_of_another_key_is_refused(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    stored = client.put("bucket", "one", 1)
    for bucket, key in (("bucket", "other"), ("elsewhere", "one")):
        with pytest.raises(InvalidRequest, match="belongs to another key"):
            client.put(bucket, key, 2, context=stored.context)
        with pytest.raises(InvalidRequest, match="belongs to another key"):
            client.delete(bucket, key, context=stored.context)
        with pytest.raises(InvalidRequest, match="belongs to another key"):
            client.put(bucket, key, 2, if_context=stored.context)
    with pytest.raises(InvalidRequest):
        client.put("bucket", "one", 2, context=stored.context[:-1])
    with pytest.raises(InvalidRequest):
        client.put("bucket", "one", 2, context=b"nonsense")


# ── siblings ──


def test_two_blind_writes_through_two_coordinators_are_siblings_until_a_context_covers_both(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    one.put(KEY, b"one")
    other.put(KEY, b"other")
    record = User(sim, "n3").get(KEY)
    assert values(record) == [b"one", b"other"]
    one.put(KEY, b"resolved", one.token(KEY, record.context))
    assert values(other.get(KEY, r=ALL)) == [b"resolved"]


def test_two_writes_at_once_on_both_sides_of_a_cut_are_siblings_after_it(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n3")
    before = one.put(KEY, b"before", w=ALL)
    sim.cut("n1", "n3")
    sim.cut("n2", "n3")
    one.put(KEY, b"one", before)
    other.put(KEY, b"other", before, w=1)
    assert values(other.get(KEY, r=1)) == [b"other"]
    sim.heal_all()
    sim.run_for(1)
    assert values(one.get(KEY, r=ALL)) == [b"one", b"other"]


def test_what_a_user_sees_of_siblings(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.put("bucket", "key", "one")
    client.put("bucket", "key", "other")
    record = client.get("bucket", "key")
    assert sorted(record.siblings) == ["one", "other"]
    with pytest.raises(ConflictError):
        record.value  # noqa: B018
    client.put("bucket", "key", "resolved", context=record.context)
    assert client.get("bucket", "key").value == "resolved"


def test_read_modify_write_by_many_at_once_loses_nothing(simulate: Simulate) -> None:
    sim = simulate(5)
    clients = [sim.client("n1", "n2", "n3") for _ in range(5)]

    def adding(what: int) -> Callable[[list[list[int]]], list[int]]:
        return lambda siblings: sorted({what, *(old for sibling in siblings for old in sibling)})

    pending = [
        client.begin_update("bucket", "set", adding(10 * who + number), timeout=60)
        for who, client in enumerate(clients)
        for number in range(10)
    ]
    clients[0].wait(*pending)
    record = clients[0].get("bucket", "set", r=3)
    assert sorted({old for sibling in record.siblings for old in sibling}) == list(range(50))


# ── if_context ──


def test_if_context_writes_only_where_nobody_else_wrote(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.put("bucket", "key", 1, if_context=b"")
    record = client.get("bucket", "key")
    stored = client.put("bucket", "key", 2, if_context=record.context)
    assert client.get("bucket", "key").value == 2
    with pytest.raises(ConflictError, match="somebody else wrote it") as conflict:
        client.put("bucket", "key", 3, if_context=record.context)
    assert conflict.value.siblings == [2]
    assert conflict.value.context == stored.context
    client.put("bucket", "key", 3, if_context=conflict.value.context)
    assert client.get("bucket", "key").siblings == [3]


def test_if_context_empty_asks_that_nothing_is_live(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    stored = client.put("bucket", "key", 1)
    with pytest.raises(ConflictError) as conflict:
        client.put("bucket", "key", 2, if_context=b"")
    assert conflict.value.siblings == [1]
    client.delete("bucket", "key", context=stored.context)
    client.put("bucket", "key", 2, if_context=b"")  # a tombstone is nothing live
    assert client.get("bucket", "key").siblings == [2]


def test_if_context_of_a_record_that_the_coordinator_does_not_have_does_not_match(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    foreign = Context({b"somebody else ..": 3}, {})
    answer = failed(user.ask_put(KEY, b"value", user.token(KEY, foreign), conditional=True))
    assert (answer.code, answer.record) == ("conflict", b"")


def test_of_two_conditional_writes_at_one_coordinator_one_wins(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n1")
    seen = one.put(KEY, b"before")
    requests = []
    for user, value in ((one, b"one"), (other, b"other")):
        before = len(user.link.heard)
        requests.append((user, before))
        user.link.send(user.put_request(KEY, value, seen, conditional=True))
    assert sim.run_until(lambda: all(len(user.link.heard) > before for user, before in requests), limit_s=5)
    answers = [user.link.heard[before] for user, before in requests]
    assert sorted(type(answer).__name__ for answer in answers) == ["Done", "Failed"]
    (conflict,) = [failed(answer) for answer in answers if not isinstance(answer, Done)]
    # Who lost is shown the winner's value, and not before that is on the disk.
    assert values(Record.unpack(conflict.record)) == values(one.get(KEY))
    assert len(one.get(KEY).siblings) == 1
