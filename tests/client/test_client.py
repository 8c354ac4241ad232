"""Opening, closing, and what goes wrong in between."""

from __future__ import annotations

import gc
import socket

import pytest
import trio

import dyno
from dyno.wire.messages import AskMembers, CreateBucket, Found, Get, Hello, Put, Refuse
from tests.ports import free_ports

pytestmark = pytest.mark.trio


async def test_a_client_opens_and_closes_around_a_block(serving):
    async with serving() as node, dyno.connect(node.address) as client:
        await client.bucket("carts").put("alice", {"milk": 1})
        assert (await client.bucket("carts").get("alice")).value == {"milk": 1}


async def test_a_client_may_be_opened_and_closed_by_hand_in_different_tasks(serving):
    async with serving() as node, trio.open_nursery() as nursery:
        client = await dyno.connect(node.address).open()
        await client.bucket("carts").put("alice", 1)
        nursery.start_soon(client.aclose)
    await client.aclose()


async def test_what_can_be_no_address_is_refused_when_connecting():
    for wrong in ((), ("nonsense",), (7101,)):
        with pytest.raises(dyno.InvalidRequest):
            dyno.connect(*wrong)
    with pytest.raises(dyno.InvalidRequest, match="timeout"):
        dyno.connect("127.0.0.1:7101", timeout=-1)


async def test_an_exception_of_the_block_leaves_it_unwrapped(serving):
    class Mine(Exception):
        pass

    async with serving() as node:
        with pytest.raises(Mine):
            async with dyno.connect(node.address):
                raise Mine


async def test_a_cancelled_block_ends_cleanly(serving):
    async with serving() as node:
        with trio.move_on_after(0.05) as scope:
            async with dyno.connect(node.address):
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_using_a_client_that_is_not_open_says_how_to_open_it(serving):
    async with serving() as node:
        client = dyno.connect(node.address)
        carts = client.bucket("carts")
        for use in (
            carts.get("k"),
            carts.put("k", 1),
            carts.delete("k"),
            carts.update("k", len),
            client.status(),
            client.hints_drained(),
            client.explain("carts", "k"),
        ):
            with pytest.raises(dyno.InvalidRequest, match="not open"):
                await use
        async with client:
            await carts.put("k", 1)
            with pytest.raises(dyno.InvalidRequest, match="opened already"):
                await client.open()
        for use in (
            carts.get("k"),
            carts.put("k", 1),
            carts.delete("k"),
            carts.update("k", len),
            client.status(),
            client.hints_drained(),
            client.explain("carts", "k"),
        ):
            with pytest.raises(dyno.InvalidRequest, match="is closed"):
                await use
        with pytest.raises(dyno.InvalidRequest, match="opened already"):
            await client.open()


async def test_when_nobody_listens_opening_fails_soon_with_the_reason():
    (port,) = free_ports(1)
    began = trio.current_time()
    with pytest.raises(dyno.ConnectFailed, match=f"127.0.0.1:{port}: Connection refused"):
        async with dyno.connect(f"127.0.0.1:{port}"):
            pass
    assert trio.current_time() - began < 2


async def test_a_name_that_does_not_exist_is_a_reason_too():
    with pytest.raises(dyno.ConnectFailed, match=r"no-such-host\.invalid:7101: "):
        await dyno.connect("no-such-host.invalid:7101", timeout=0.3).open()


async def test_a_name_no_resolver_takes_is_a_reason_too():
    with pytest.raises(dyno.ConnectFailed, match="label"):
        await dyno.connect("x" * 70 + ".example:7101", timeout=0.3).open()


async def test_one_of_several_nodes_is_enough(serving):
    async with serving() as node:
        one, other = free_ports(2)
        addresses = f"127.0.0.1:{one}", node.address, f"127.0.0.1:{other}"
        async with dyno.connect(*addresses) as client:
            await client.bucket("carts").put("alice", 1)


async def test_names_are_resolved(serving):
    async with serving() as node:
        port = node.address.rpartition(":")[2]
        async with dyno.connect(f"localhost:{port}") as client:
            await client.bucket("carts").put("alice", 1)


async def test_a_node_that_starts_a_moment_later_is_found(serving):
    (port,) = free_ports(1)
    client = dyno.connect(f"127.0.0.1:{port}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.open)
        await trio.sleep(0.2)  # let it fail a few times
        async with serving(port=port) as node:
            await node.received(AskMembers)
            await client.aclose()


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (Refuse("overloaded", "n1 has 1000 clients already"), "n1 has 1000 clients already"),
        (Hello(7, 9, "peer", b"c" * 16, 16, "n1", b"", b"", ""), "talks protocol versions 7 to 9"),
        (Hello(1, 1, "peer", b"", 16, "n1", b"", b"", ""), "has not joined a cluster yet"),
        (Found(1, b"", "", ""), "the first message was no hello"),
    ],
)
async def test_a_node_that_would_not_talk_to_us_is_a_reason(serving, first, reason):
    async with serving() as node:
        node.first = lambda _hello: first
        with pytest.raises(dyno.ConnectFailed, match=reason):
            await dyno.connect(node.address, timeout=0.3).open()


async def test_something_that_is_no_node_is_a_reason():
    async def babble(stream):
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep(0.1)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, babble, [listener])
        with pytest.raises(dyno.ConnectFailed, match="not understood"):
            await dyno.connect(address, timeout=0.3).open()
        nursery.cancel_scope.cancel()


async def test_something_that_says_nothing_is_given_up():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(dyno.ConnectFailed, match="no answer yet"):
            await dyno.connect(address, timeout=0.2).open()


async def test_status_lists_the_members(serving, a_node):
    async with serving("n1") as one, serving("n2") as two:
        one.others = [two]
        async with dyno.connect(one.address) as client:
            status = await client.status(timeout=2)
    assert [member["name"] for member in status["members"]] == ["n1", "n2"]
    assert sum(member["share"] for member in status["members"]) == pytest.approx(1)
    assert list(status["repairs"]) == ["n1", "n2"]
    assert status["repairs"]["n1"]["state"] == "ready"


async def test_a_repair_tells_how_far_it_is(serving):
    seen = []
    async with serving("n1") as node, dyno.connect(node.address) as client:
        progress = await client.repair("carts", quarantine=True, told=seen.append)
        assert progress["done"]
        assert [node["name"] for node in progress["nodes"]] == ["n1"]
        assert seen == [progress]
        assert (await client.repair(timeout=2))["done"]
        with pytest.raises(dyno.InvalidRequest):
            await client.repair("")
        asked = node.repairs
    assert [(one.bucket, one.merge, len(one.run)) for one in asked] == [("carts", True, 16), ("", False, 16)]
    assert asked[0].run != asked[1].run


async def test_what_is_held_of_a_key_is_explained(serving):
    async with serving() as node, dyno.connect(node.address) as client:
        await client.bucket("carts").put("k", {"milk": 1})
        explained = await client.explain("carts", "k")
        assert explained["replicas"][0]["copy"]["siblings"][0]["value"] == {"milk": 1}
        never = await client.explain("carts", b"never", timeout=2)
        assert never["replicas"][0]["copy"]["state"] == "absent"
        for bucket, key in (("", "k"), ("carts", ""), ("carts", 1)):
            with pytest.raises(dyno.InvalidRequest):
                await client.explain(bucket, key)


async def test_hints_are_waited_for(serving):
    async with serving("n1") as one, serving("n2") as two, dyno.connect(one.address) as client:
        one.others, two.others = [two], [one]
        await client.hints_drained()
        two.held = {"n1": 2}
        seen = []

        def drain(backlog):
            seen.append(str(backlog))
            two.held = {"n1": 2 - len(seen)}

        await client.hints_drained(timeout=60, told=drain)
        assert seen == ["2 hints wait for n1", "1 hint waits for n1"]
        two.held = {"n1": 3}
        with pytest.raises(dyno.RequestTimeout, match="3 hints wait for n1"):
            await client.hints_drained(0.3)
        with pytest.raises(dyno.InvalidRequest, match="timeout"):
            await client.hints_drained(-1)


async def test_calls_go_on_when_a_node_comes_back(serving, a_node):
    node = a_node()
    async with node.serving():
        port = int(node.address.rpartition(":")[2])
        client = await dyno.connect(node.address).open()
        carts = client.bucket("carts")
        await carts.put("alice", 1)
    async with trio.open_nursery() as nursery:

        async def read():
            assert (await carts.get("alice")).value == 1

        nursery.start_soon(read)
        await trio.sleep(0.1)  # let it be refused
        async with node.serving(port):
            await node.received(Get)
            await carts.put("alice", 2)
            await client.aclose()


async def test_the_other_nodes_are_found_and_used(serving):
    async with serving("n1") as one, serving("n2") as two, serving("n3") as three:
        nodes = [one, two, three]
        for node in nodes:
            node.others = [other for other in nodes if other is not node]
        async with dyno.connect(one.address) as client:
            carts = client.bucket("carts")
            with trio.fail_after(3):
                while not all(node.requests(Put) for node in nodes):
                    for i in range(20):
                        await carts.put(f"key {i}", i)


async def test_closing_ends_the_calls_of_other_tasks(serving):
    errors = {}

    async def call(name, use):
        try:
            await use
        except dyno.DynoError as error:
            errors[name] = error

    async with serving() as node:
        client = await dyno.connect(node.address).open()
        carts = client.bucket("carts")
        node.answer = lambda _request: None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "get", carts.get("k"))
            nursery.start_soon(call, "put", carts.put("k", 1))
            nursery.start_soon(call, "update", carts.update("k", len))
            await node.received(Get, 2)
            await node.received(Put)
            await client.aclose()
    assert isinstance(errors["get"], dyno.ConnectFailed)
    assert isinstance(errors["update"], dyno.ConnectFailed)
    assert isinstance(errors["put"], dyno.QuorumNotMet)
    assert errors["put"].indeterminate


async def test_an_update_between_two_calls_does_not_outlive_the_client(serving):
    async with serving() as node:
        client = await dyno.connect(node.address).open()
        closing = trio.Event()

        def change(_siblings):
            closing.set()
            client._unusable = "this client is closed"
            return 1

        with trio.fail_after(2), pytest.raises(dyno.InvalidRequest, match="is closed"):
            await client.bucket("carts").update("k", change)
        await client.aclose()


async def test_a_client_that_breaks_fails_its_calls_and_says_why(serving):
    async with serving() as node:
        async with dyno.connect(node.address) as client:
            carts = client.bucket("carts")

            def handle(*_arguments):
                raise ZeroDivisionError("a bug")

            client.runner.session.handle = handle
            with pytest.raises(dyno.ConnectFailed, match=r"the client broke .*a bug") as caught:
                await carts.get("k")
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            with pytest.raises(dyno.DynoError, match=r"the client broke .*a bug"):
                await carts.get("k")
        with pytest.raises(dyno.InvalidRequest, match="is closed"):
            await carts.get("k")


async def test_a_node_that_sends_what_is_no_answer_loses_its_link(serving):
    async with serving() as node, dyno.connect(node.address) as client:
        carts = client.bucket("carts")
        node.answer = lambda request: (
            Hello(1, 1, "peer", b"", 0, "", b"", b"", "")
            if type(request) is Get and len(node.requests(Get)) == 1
            else node.answer_truly(request)
        )
        assert not (await carts.get("k")).exists
        assert len(node.requests(Get)) == 2


async def test_a_client_that_nobody_closed_ends_with_the_run(a_node):
    async def main():
        async with a_node().serving() as node:
            client = await dyno.connect(node.address).open()
            await client.bucket("carts").put("k", 1)

    await trio.to_thread.run_sync(trio.run, main)
    gc.collect()  # a socket that was left open would warn, and warnings are errors


async def test_buckets_are_created_and_listed(serving):
    async with serving() as node, dyno.connect(node.address) as client:
        assert await client.buckets() == {}
        wide = {"n": 5, "r": 1, "w": "all", "kind": "siblings"}
        assert await client.create_bucket("wide", n=5, r="one", w="all") == wide
        plain = await client.create_bucket("also", kind="siblings", timeout=1)
        assert plain == {"n": 3, "r": "quorum", "w": "quorum", "kind": "siblings"}
        listed = await client.buckets(timeout=1)
        assert list(listed) == ["also", "wide"]
        assert listed["wide"] == wide


async def test_what_can_be_no_bucket_is_refused_at_once(serving):
    async with serving() as node, dyno.connect(node.address) as client:
        with pytest.raises(dyno.InvalidRequest, match="there is no bucket kind 'lww'"):
            await client.create_bucket("wide", kind="lww")
        with pytest.raises(dyno.InvalidRequest, match="r=4 is more than the bucket's n=3"):
            await client.create_bucket("wide", r=4)
        assert not node.requests(CreateBucket)
