"""What the documentation says is so: every configuration key, every link, the commands that CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from dyno.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("field", msgspec.structs.fields(Config), ids=lambda field: field.name)
def test_every_configuration_key_is_documented_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    operating = (ROOT / "docs" / "operating.md").read_text()
    assert f"| `{field.name}` | {field.default!r} | " in operating


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
