"""`dyno.Node` in a Trio program: several nodes of a cluster in one process, with real sockets and disks."""

from __future__ import annotations

import resource
import shutil
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

import dyno
from dyno.config import Config
from dyno.errors import ConfigurationError
from tests.ports import free_ports

QUICK = {"probe_interval_s": 0.1, "probe_timeout_s": 0.05, "suspicion_mult": 2.0, "join_retry_s": 0.1}


def a_node(path: Path, name: str, *join: str, **more: Any) -> dyno.Node:
    options: dict[str, Any] = {"listen": "127.0.0.1:0", "config": QUICK, **more}
    return dyno.Node(name=name, data=str(path / name), join=join, **options)


async def three(stack: AsyncExitStack, path: Path) -> list[dyno.Node]:
    first = await stack.enter_async_context(a_node(path, "n1"))
    second = await stack.enter_async_context(a_node(path, "n2", first.address))
    third = await stack.enter_async_context(a_node(path, "n3", second.address))
    return [first, second, third]


async def status_when(client: dyno.Client, wanted: Any) -> dict[str, Any]:
    """The first status that is as wanted."""
    with trio.fail_after(10):
        while True:
            status = await client.status()
            if wanted(status):
                return status
            await trio.sleep(0.05)


async def test_one_node_serves_from_the_first_line_of_its_block(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1") as node, dyno.connect(node.address) as client:
        carts = client.bucket("carts")
        stored = await carts.put("alice", {"milk": 1})
        record = await carts.get("alice")
        assert record.value == {"milk": 1}
        assert record.context == stored.context
        assert stored.replicas.answered == ("n1",)
        assert node.name == "n1"


async def test_three_nodes_find_each_other_through_any_member(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        nodes = await three(stack, tmp_path)
        client = await stack.enter_async_context(dyno.connect(nodes[2].address))
        status = await status_when(client, lambda status: len(status["members"]) == 3)
        assert sorted(member["name"] for member in status["members"]) == ["n1", "n2", "n3"]
        assert {member["state"] for member in status["members"]} == {"normal"}
        stored = await client.bucket("carts").put("alice", 1, w=3)
        assert sorted(stored.replicas.answered) == ["n1", "n2", "n3"]


async def test_what_was_written_is_there_after_a_clean_stop(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1") as node, dyno.connect(node.address) as client:
        await client.bucket("b").put("k", [1, 2.5, None])
    async with a_node(tmp_path, "n1") as node, dyno.connect(node.address) as client:
        assert (await client.bucket("b").get("k")).value == [1, 2.5, None]


async def test_a_whole_cluster_comes_back_at_other_addresses(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        nodes = await three(stack, tmp_path)
        async with dyno.connect(nodes[0].address) as client:
            for number in range(20):
                await client.bucket("b").put(f"k{number}", number)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(a_node(tmp_path, "n1"))
        for name in ("n2", "n3"):
            await stack.enter_async_context(a_node(tmp_path, name, first.address))
        client = await stack.enter_async_context(dyno.connect(first.address, timeout=10))
        await status_when(client, lambda status: all(m["liveness"] == "alive" for m in status["members"]))
        for number in range(20):
            assert (await client.bucket("b").get(f"k{number}", r=3)).value == number


async def test_a_stopped_node_is_dead_and_its_quorum_goes_on(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(a_node(tmp_path, "n1"))
        await stack.enter_async_context(a_node(tmp_path, "n2", first.address))
        client = await stack.enter_async_context(dyno.connect(first.address))
        async with a_node(tmp_path, "n3", first.address):
            await client.bucket("b").put("k", 1)

        def third_is_dead(status: dict[str, Any]) -> bool:
            return {m["name"]: m["liveness"] for m in status["members"]}["n3"] == "dead"

        await status_when(client, third_is_dead)
        assert len((await client.bucket("b").put("k2", 1)).replicas.answered) >= 2
        with pytest.raises(dyno.QuorumNotMet) as caught:
            await client.bucket("b").put("k3", 1, w=3)
        assert (caught.value.needed, caught.value.indeterminate) == (3, False)


async def test_a_node_that_lost_its_directory_fills_up_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(a_node(tmp_path, "n1"))
        second = await stack.enter_async_context(a_node(tmp_path, "n2", first.address))
        client = await stack.enter_async_context(dyno.connect(first.address, second.address))
        async with a_node(tmp_path, "n3", first.address):
            for number in range(100):
                await client.bucket("b").put(f"k{number}", number, w=3)
        shutil.rmtree(tmp_path / "n3")
        third = await stack.enter_async_context(a_node(tmp_path, "n3", first.address))
        alone = await stack.enter_async_context(dyno.connect(third.address))
        with trio.fail_after(10):
            for number in range(100):
                # All three have to be complete again, which takes a moment.
                while (value := await value_of(alone, f"k{number}", pr=3)) is None:
                    await trio.sleep(0.05)
                assert value == number


async def value_of(client: dyno.Client, key: str, *, pr: int) -> object:
    """None while fewer primaries can answer for it."""
    try:
        return (await client.bucket("b").get(key, pr=pr)).value
    except dyno.QuorumNotMet:
        return None


async def test_joining_a_cluster_that_holds_data_is_refused(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1") as node, dyno.connect(node.address) as client:
        await client.bucket("b").put("k", 1)
        with pytest.raises(ConfigurationError, match="holds data"):
            async with a_node(tmp_path, "n2", node.address):
                pass
        await client.bucket("b").put("k2", 2)


async def test_a_live_name_is_taken(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1") as node:
        with pytest.raises(ConfigurationError, match="n1"):
            async with dyno.Node(
                name="n1",
                listen="127.0.0.1:0",
                data=str(tmp_path / "other"),
                join=[node.address],
                config=QUICK,
            ):
                pass


async def test_a_returning_node_is_not_let_into_another_cluster(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1"):
        pass
    async with a_node(tmp_path, "m1") as other:
        with pytest.raises(ConfigurationError, match="cluster"):
            async with a_node(tmp_path, "n1", other.address):
                await trio.sleep(10)


async def test_a_directory_serves_one_node_at_a_time(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1"):
        with pytest.raises(ConfigurationError, match="in use"):
            async with a_node(tmp_path, "n1"):
                pass


@pytest.mark.parametrize("words", [{"zone": "b"}, {"weight": 2.0}])
async def test_what_a_directory_was_born_with_stays(tmp_path: Path, words: dict[str, Any]) -> None:
    async with a_node(tmp_path, "n1", zone="a"):
        pass
    with pytest.raises(ConfigurationError, match="was born with"):
        async with a_node(tmp_path, "n1", **{"zone": "a", **words}):
            pass


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"{address}: Address already in use"):
            async with a_node(tmp_path, "n1", listen=address):
                pass


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"listen": "nonsense"}, "listen"),
        ({"listen": "127.0.0.1:70000"}, "listen"),
        ({"listen": "0.0.0.0:0"}, "advertise"),
        ({"advertise": "host:0"}, "advertise"),
        ({"advertise": "0.0.0.0:7000"}, "advertise"),
        ({"advertise": "[::]:7000"}, "advertise"),
        ({"name": 7}, "name is a str"),
        ({"zone": None}, "zone is a str"),
        ({"weight": "2"}, "weight is a number"),
        ({"partitions": True}, "partitions is a number"),
        ({"join": [7]}, "an address is a str"),
        ({"data": ""}, "data directory"),
        ({"config": 7}, "configuration"),
        ({"join": ["host"]}, "join"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"weight": 0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"partitions": 0}, "partitions"),
        ({"partitions": 65537}, "partitions"),
        ({"zone": "z" * 65}, "zone"),
        ({"config": {"nonsense": 1}}, "nonsense"),
        ({"config": {"gossip_nodes": 0}}, "gossip_nodes"),
        ({"config": Config(gossip_nodes=0)}, "gossip_nodes"),
    ],
)
def test_wrong_words_are_refused_before_anything_happens(
    tmp_path: Path, words: dict[str, Any], reason: str
) -> None:
    options: dict[str, Any] = {"name": "n1", "listen": "127.0.0.1:0", "data": str(tmp_path / "n1"), **words}
    with pytest.raises(ConfigurationError, match=reason):
        dyno.Node(**options)
    assert not (tmp_path / "n1").exists()


async def test_an_exception_of_the_block_leaves_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with a_node(tmp_path, "n1"):
            raise KeyError("mine")
    async with a_node(tmp_path, "n1"):  # and the directory was let go
        pass


def test_a_node_that_must_not_go_on_ends_in_order_in_a_program_without_strict_groups(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_node(tmp_path, "m1") as other:
            async with a_node(tmp_path, "n1"):
                pass
            for _ in range(2):  # the first one let go of its directory
                with pytest.raises(ConfigurationError, match="cluster"):
                    async with a_node(tmp_path, "n1", other.address):
                        await trio.sleep(10)

    with pytest.warns(trio.TrioDeprecationWarning):
        trio.run(main, strict_exception_groups=False)


async def test_cancelling_the_block_stops_the_node(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with trio.CancelScope() as scope:
        async with a_node(tmp_path, "n1", listen=address):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with a_node(tmp_path, "n1", listen=address):
        pass


async def test_giving_up_while_joining_leaves_nothing_behind(tmp_path: Path) -> None:
    with trio.move_on_after(0.2) as scope:
        async with a_node(tmp_path, "n1", "127.0.0.1:1"):
            raise AssertionError("it cannot have joined")
    assert scope.cancelled_caught


async def test_a_node_that_runs_out_of_descriptors_leaves_nothing_behind(tmp_path: Path) -> None:
    async with a_node(tmp_path, "n1"):
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    before = len(list(descriptors.iterdir()))
    for left in range(1, 20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + left, hard))
        try:
            async with a_node(tmp_path, "n1"):
                break
        except ConfigurationError as error:
            assert "open files" in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(list(descriptors.iterdir())) == before
    else:
        raise AssertionError("a node takes fewer descriptors")


async def test_ipv6_and_names_work(tmp_path: Path) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(a_node(tmp_path, "n1", listen="[::1]:0"))
        assert first.address.startswith("[::1]:")
        second = await stack.enter_async_context(a_node(tmp_path, "n2", first.address, listen="[::1]:0"))
        client = await stack.enter_async_context(dyno.connect(second.address))
        assert len((await client.bucket("b").put("k", 1, w=2)).replicas.answered) == 2
    async with a_node(tmp_path, "m1", listen="localhost:0") as node, dyno.connect(node.address) as client:
        await client.bucket("b").put("k", 1)


async def test_paths_and_single_addresses_will_do(tmp_path: Path) -> None:
    async with dyno.Node(name="n1", listen="127.0.0.1:0", data=tmp_path / "n1") as node:
        other = dyno.Node(name="n2", listen="127.0.0.1:0", data=tmp_path / "n2", join=node.address)
        async with other, dyno.connect(other.address) as client:
            assert (await client.bucket("b").put("k", 1, w=2)).replicas.answered


async def test_a_copy_of_a_living_nodes_directory_is_refused(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    async with a_node(tmp_path, "n1", listen=address):
        pass
    shutil.copytree(tmp_path / "n1", tmp_path / "copy")
    async with a_node(tmp_path, "n1", listen=address):
        for join in ([], [address]):
            with pytest.raises(ConfigurationError, match=f"the name n1 is taken: .*{address}"):
                async with dyno.Node(
                    name="n1", listen="127.0.0.1:0", data=str(tmp_path / "copy"), join=join, config=QUICK
                ):
                    pass
