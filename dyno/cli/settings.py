"""What a node is told: its flags, and the TOML file of --config.

The file has the names of `dyno.config.Config` and the node's own options (name, listen, data, join,
advertise, zone, weight, partitions, log_level), all at the top level. Flags beat the file. A `data` path of
the file, too, starts from the directory that the command is run in, and `~` is the home.

In: the flags that were given, as texts, and the path. Out: `NodeSettings`, complete and of the right types;
what the values mean is for `dyno.Node` to judge. Raises ConfigurationError with file, name and reason.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from dyno.config import Config
from dyno.errors import ConfigurationError

FILE_BYTES_MAX = 1 << 20
LOG_LEVELS = ("debug", "info", "warning", "error")

_REQUIRED = ("name", "listen", "data")
_TYPE = re.compile(r"`([^`]*)`")
_TYPES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "str | array": "a text or a list of texts",
    "str | null": "a text",
}
_PLACE = re.compile(r"(?P<why>.*) - at `\$\.?(?P<name>.*)`")


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `dyno.Node`, and how much to log."""

    name: str
    listen: str
    data: str
    join: str | list[str] = []
    advertise: str | None = None
    zone: str = ""
    weight: float = 1.0
    partitions: int = 1024
    log_level: str = "info"
    config: Config = Config()


def settings(flags: dict[str, Any], path: Path | None) -> NodeSettings:
    """flags: texts by the names of NodeSettings, None where not given."""
    own, tunables = _from_file(path) if path is not None else ({}, {})
    given = {name: value for name, value in flags.items() if value is not None}
    for name in _REQUIRED:
        if not given.get(name, own.get(name)):
            raise ConfigurationError(
                f"--{name} is missing{f', in {path} too' if path else ''}; see dyno node --help"
            )
    config = _converted(tunables, Config, where=f"{path}: ")
    # The file is judged apart, so that its faults are not blamed on the flags.
    _converted(dict.fromkeys(_REQUIRED, "-") | own, NodeSettings, where=f"{path}: ")
    merged = _merged(own, given)
    if merged.log_level not in LOG_LEVELS:
        raise ConfigurationError(
            f"the log level {merged.log_level!r} is unknown; there are {', '.join(LOG_LEVELS)}"
        )
    join = [merged.join] if isinstance(merged.join, str) else merged.join
    return msgspec.structs.replace(merged, join=join, config=config)


def _merged(own: dict[str, Any], given: dict[str, str | list[str]]) -> NodeSettings:
    try:
        # Flags are texts, so here a number's text is a number.
        return msgspec.convert(own | given, NodeSettings, strict=False)
    except msgspec.ValidationError as error:
        place = _PLACE.fullmatch(str(error))
        assert place is not None, error
        name = place["name"]
        kind = "a whole number" if name == "partitions" else "a number"
        raise ConfigurationError(f"--{name}: {given[name]!r} is not {kind}") from None


def _from_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node's own options, and the tunables."""
    table = _table(path)
    tunable_names = Config.__struct_fields__
    own_names = [name for name in NodeSettings.__struct_fields__ if name != "config"]
    unknown = [name for name in table if name not in tunable_names and name not in own_names]
    if unknown:
        similar = get_close_matches(unknown[0], [*own_names, *tunable_names], n=1)
        meant = f"; did you mean {similar[0]}?" if similar else ""
        raise ConfigurationError(f"{path}: unknown: {', '.join(unknown)}{meant}")
    own = {name: table[name] for name in own_names if name in table}
    if isinstance(own.get("data"), str):
        own["data"] = str(Path(own["data"]).expanduser()) if own["data"] else ""
    return own, {name: value for name, value in table.items() if name in tunable_names}


def _table(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{path} is no configuration: it has more than {FILE_BYTES_MAX >> 20} MiB")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path} is not UTF-8 text (line {line})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is no configuration: it is nested too deeply") from None


def _converted(values: dict[str, Any], kind: Any, *, where: str) -> Any:
    """where: goes before the name of what is wrong."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        place = _PLACE.fullmatch(str(error))
        if place is None:
            raise ConfigurationError(f"{where}{error}") from None
        name = place["name"].partition("[")[0]
        raise ConfigurationError(
            f"{where}{place['name']} = {values.get(name)!r}: {_plain(place['why'])}"
        ) from None


def _plain(why: str) -> str:
    """What msgspec says, in the words of people who write TOML."""
    text = _TYPE.sub(lambda found: _TYPES.get(found[1], found[1]), why)
    return f"{text[:1].lower()}{text[1:]}"
