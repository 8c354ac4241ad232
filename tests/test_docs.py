"""What the documentation says is so: configuration keys, links, command lines, Python, CI's commands."""

from __future__ import annotations

import re
import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from textwrap import indent
from typing import Any

import msgspec
import pytest

import dyno
from dyno.cli.app import GROUPS, command_of
from dyno.cli.settings import NodeSettings
from dyno.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("field", msgspec.structs.fields(Config), ids=lambda field: field.name)
def test_every_configuration_key_is_documented_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    operating = (ROOT / "docs" / "operating.md").read_text()
    assert f"| `{field.name}` | {field.default!r} | " in operating


def test_only_configuration_keys_that_exist_are_documented() -> None:
    operating = (ROOT / "docs" / "operating.md").read_text()
    table = operating.partition("## Configuration")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert documented == list(Config.__struct_fields__)


def test_the_options_of_a_node_that_may_stand_in_its_file_are_documented() -> None:
    operating = (ROOT / "docs" / "operating.md").read_text()
    (named,) = re.findall(r"the command line's flags \(([^)]*)\)", operating)
    names = [name for name in NodeSettings.__struct_fields__ if name != "config"]
    assert sorted(re.findall(r"`(\w+)`", named)) == sorted(names)


COMMAND_LINES = sorted(
    {
        (page.name, line)
        for page in PAGES
        for line in re.findall(r"^    (?:\$ )?(dyno [^\[\n]*)$", page.read_text(), re.MULTILINE)
    }
)


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES)
def test_command_lines_are_right(page: str, line: str) -> None:
    words = shlex.split(re.split("[|;<>]", line, maxsplit=1)[0])[1:]
    count = 2 if words[0] in GROUPS else 1
    name, arguments = " ".join(words[:count]), words[count:]
    context = command_of(name).make_context(name, arguments)
    assert not context.args


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks with a main() are programs; the others go on where the last one ended, with an open client."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    if not blocks:
        return
    monkeypatch.chdir(tmp_path)
    async with AsyncExitStack() as stack:
        addresses: list[str] = []
        for name in ("n1", "n2"):
            node = dyno.Node(name=name, listen="127.0.0.1:0", data=tmp_path / name, join=addresses)
            addresses.append((await stack.enter_async_context(node)).address)
        programs = [block.removesuffix("trio.run(main)\n") for block in blocks if "trio.run(main)" in block]
        steps = "".join(block for block in blocks if "trio.run(main)" not in block)
        if steps:
            inside = f"async with dyno.connect('127.0.0.1:7101') as client:\n{indent(steps, ' ')}"
            programs.append(f"import dyno\nasync def main():\n{indent(inside, ' ')}")
        for program in programs:
            for port, address in zip((7101, 7102), addresses, strict=True):
                program = program.replace(f"127.0.0.1:{port}", address)  # noqa: PLW2901
            names: dict[str, Any] = {}
            exec(program, names)
            await names["main"]()
            await names["main"]()  # whoever pastes it once may paste it twice


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"^    python3 -m venv .*'\.\[dev\]' && \.venv/bin/(.*)$", readme, re.MULTILINE)
    assert command is not None
    assert command[1] in (ROOT / ".ci" / "run").read_text()
