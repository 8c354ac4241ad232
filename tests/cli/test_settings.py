from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dyno.cli.settings import FILE_BYTES_MAX, settings
from dyno.config import Config
from dyno.errors import ConfigurationError

FLAGS: dict[str, Any] = {"name": "n1", "listen": "127.0.0.1:7101", "data": "./n1"}


def toml(path: Path, text: str | bytes) -> Path:
    file = path / "node.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_flags_alone_are_enough() -> None:
    chosen = settings(
        {**FLAGS, "weight": "2.5", "partitions": "64", "join": ["a:1", "b:2"], "zone": None}, None
    )
    assert (chosen.name, chosen.listen, chosen.data) == ("n1", "127.0.0.1:7101", "./n1")
    assert (chosen.weight, chosen.partitions, chosen.join) == (2.5, 64, ["a:1", "b:2"])
    assert (chosen.zone, chosen.advertise, chosen.log_level) == ("", None, "info")
    assert chosen.config == Config()


def test_a_file_alone_is_enough(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        """
        name = "n1"
        listen = "127.0.0.1:0"
        data = "/srv/n1"
        join = ["a:1"]
        weight = 2
        log_level = "debug"
        probe_interval_s = 2
        gossip_nodes = 5
        """,
    )
    chosen = settings({}, file)
    assert (chosen.name, chosen.listen, chosen.data) == ("n1", "127.0.0.1:0", "/srv/n1")
    assert (chosen.join, chosen.weight, chosen.log_level) == (["a:1"], 2.0, "debug")
    assert (chosen.config.probe_interval_s, chosen.config.gossip_nodes) == (2.0, 5)


def test_flags_beat_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, 'name = "other"\njoin = "x:1"\nweight = 3\npartitions = 8')
    chosen = settings({**FLAGS, "weight": "1", "join": ["a:1"]}, file)
    assert (chosen.name, chosen.weight, chosen.join, chosen.partitions) == ("n1", 1.0, ["a:1"], 8)


def test_one_address_to_join_needs_no_list(tmp_path: Path) -> None:
    assert settings(FLAGS, toml(tmp_path, 'join = "a:1"')).join == ["a:1"]


def test_the_home_directory_is_known_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    chosen = settings({"name": "n1", "listen": "a:1"}, toml(tmp_path, 'data = "~/n1"'))
    assert chosen.data == "/home/me/n1"


@pytest.mark.parametrize("missing", ["name", "listen", "data"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_required_is_named(missing: str, value: str | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"--{missing} is missing; see dyno node --help"):
        settings({**FLAGS, missing: value}, None)
    with pytest.raises(ConfigurationError, match=f"--{missing} is missing, in .*node.toml too"):
        settings({**FLAGS, missing: value}, toml(tmp_path, ""))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gossip_ndoes = 3", "node.toml: unknown: gossip_ndoes; did you mean gossip_nodes?"),
        ("x = 1\ny = 2", "node.toml: unknown: x, y"),
        ("[storage]\nx = 1", "node.toml: unknown: storage"),
        ("gossip_nodes = 0", "node.toml: gossip_nodes = 0: expected a whole number >= 1"),
        ('gossip_nodes = "3"', "node.toml: gossip_nodes = '3': expected a whole number"),
        ("gossip_nodes = true", "node.toml: gossip_nodes = True: expected a whole number"),
        ("probe_interval_s = -1", "node.toml: probe_interval_s = -1: expected a number >= 0.001"),
        ("probe_interval_s = nan", "probe_interval_s = nan"),
        ("[gossip_nodes]\nx = 1", "gossip_nodes = {'x': 1}: expected a whole number"),
        ("name = 7", "node.toml: name = 7: expected a text"),
        ('weight = "2"', "node.toml: weight = '2': expected a number"),
        ("join = [1]", "node.toml: join[0] = [1]: expected a text"),
        ("data = []", "node.toml: data = []: expected a text"),
        ('log_level = "loud"', "the log level 'loud' is unknown; there are debug, info, warning, error"),
        ("config = 1", "unknown: config"),
        ("a = 1\nb = = 2", "node.toml is not valid TOML: .*line 2"),
        ("a = 1\na = 2", "not valid TOML"),
        (b"# \xff", r"node.toml is not UTF-8 text \(line 1\)"),
        (b"\n\n# \xff", r"\(line 3\)"),
        (b"#" * (FILE_BYTES_MAX + 1), "node.toml is no configuration: it has more than 1 MiB"),
        ("x = " + "[" * 100_000, "no configuration|not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_name_and_place(
    text: str | bytes, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(FLAGS, toml(tmp_path, text))
    import re

    assert complaint in str(caught.value) or re.search(complaint, str(caught.value))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the configuration .*none.toml: No such file"):
        settings(FLAGS, tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        settings(FLAGS, tmp_path)


@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("weight", "heavy", "--weight: 'heavy' is not a number"),
        ("partitions", "1.5", "--partitions: '1.5' is not a whole number"),
        ("log_level", "loud", "the log level 'loud' is unknown"),
    ],
)
def test_a_wrong_flag_is_named(flag: str, value: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        settings({**FLAGS, flag: value}, None)
