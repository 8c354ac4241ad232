from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dyno.cli.cluster import Seat, check_ports, restart_line, start_arguments, welcome
from dyno.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno


def seats(path: Path, count: int = 3, base_port: int = 7101) -> list[Seat]:
    return [Seat(f"n{i}", f"127.0.0.1:{base_port + i - 1}", path / f"n{i}") for i in range(1, count + 1)]


def joined(arguments: list[str]) -> list[str]:
    return [arguments[at + 1] for at, word in enumerate(arguments) if word == "--join"]


def test_the_first_founds_and_the_others_join_those_before_them(tmp_path: Path) -> None:
    one, two, three = start_arguments(seats(tmp_path), tmp_path / "founded")
    assert one[:7] == ["node", "--name", "n1", "--listen", "127.0.0.1:7101", "--data", str(tmp_path / "n1")]
    assert joined(one) == []
    assert joined(two) == ["127.0.0.1:7101"]
    assert joined(three) == ["127.0.0.1:7101", "127.0.0.1:7102"]


def test_a_first_node_that_lost_its_data_joins_the_others(tmp_path: Path) -> None:
    places = seats(tmp_path)
    (tmp_path / "founded").touch()
    places[1].data.mkdir()
    (places[1].data / "data.mdb").touch()
    assert joined(start_arguments(places, tmp_path / "founded")[0]) == ["127.0.0.1:7102", "127.0.0.1:7103"]


def test_a_first_node_that_lost_its_data_and_died_before_it_had_joined_joins_all_the_same(
    tmp_path: Path,
) -> None:
    places = seats(tmp_path)
    (tmp_path / "founded").touch()
    for place in places[:2]:
        place.data.mkdir()
        (place.data / "data.mdb").touch()
    assert joined(start_arguments(places, tmp_path / "founded")[0]) == ["127.0.0.1:7102", "127.0.0.1:7103"]


@pytest.mark.parametrize("founded", [True, False])
def test_where_nobody_has_data_the_first_founds_again(founded: bool, tmp_path: Path) -> None:
    if founded:
        (tmp_path / "founded").touch()
        (tmp_path / "n2").mkdir()
    else:  # n1 never got as far as founding
        (tmp_path / "n2").mkdir()
        (tmp_path / "n2" / "data.mdb").touch()
    assert joined(start_arguments(seats(tmp_path), tmp_path / "founded")[0]) == []


def test_a_restarted_node_asks_all_others(tmp_path: Path) -> None:
    places = seats(tmp_path / "a dir")
    line = restart_line(places[0], places)
    assert f"dyno node --name n1 --listen 127.0.0.1:7101 --data '{tmp_path}/a dir/n1'" in line
    assert line.endswith("--join 127.0.0.1:7102 --join 127.0.0.1:7103")


def test_the_welcome_says_who_is_there_and_how_to_talk(tmp_path: Path) -> None:
    lines = list(welcome(seats(tmp_path), [11, 12, 13]))
    assert lines[0] == "dyno: cluster of 3 ready"
    assert lines[2] == "  n2  127.0.0.1:7102  pid 12"
    assert any(line.endswith("dyno get fruit apple") for line in lines)
    assert sum("dyno node --name" in line for line in lines) == 3

    elsewhere = list(welcome(seats(tmp_path, 1, 7201), [11]))
    assert any(line.endswith("dyno get fruit apple --node 127.0.0.1:7201") for line in elsewhere)
    assert not any("is down" in line for line in elsewhere)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_starts_nobody(kind: socket.SocketKind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"n1 cannot listen on 127.0.0.1:{port}: Address already"
        ):
            check_ports(seats(tmp_path, 1, port))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--nodes", "0"), "--nodes is a number from 1 to 100, not '0'"),
        (("--nodes", "101"), "--nodes"),
        (("--nodes", "three"), "--nodes"),
        (("--nodes", "9" * 5000), "--nodes"),
        (("--base-port", "0"), "--base-port is a number from 1 to 65533, not '0'"),
        (("--base-port", "65534"), "--base-port"),
        (("--data", ""), "--data"),
    ],
)
def test_what_cannot_be_is_refused(command: Dyno, words: tuple[str, ...], complaint: str) -> None:
    ended = command("cluster", *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1)
    assert complaint in ended.err
