"""Compiles the pure packages with mypyc, where that is asked for: `DYNO_COMPILE=1 pip install .`

In: the lists under [tool.hatch.build.targets.wheel.hooks.custom] in pyproject.toml, and the environment
variable. Out: a wheel that holds, beside each compiled module, its source. Without the variable nothing here
does anything: the wheel is pure Python, and building it needs no compiler. The modules are copied to a
temporary directory and compiled there, so that a checkout never holds what could be imported in the place of
its sources. Why, and what it gains: docs/design/compiled.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASKED_BY = "DYNO_COMPILE"
# All modules are one library, of which nobody replaces functions: calls between them may be inlined.
C_FLAGS = "-flto=auto -fno-semantic-interposition -fvisibility=hidden"
SETUP = """
from mypyc.build import mypycify
from setuptools import setup

setup(
    name="dyno",
    packages=[],
    ext_modules=mypycify(
        ["--strict", "--ignore-missing-imports", *{modules!r}],
        opt_level="3",
        debug_level="0",
        multi_file=True,
    ),
)
"""


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Mypy follows imports into what dyno needs, so that is needed as well."""
        if not is_asked():
            return []
        return [*self.config["compiler"], *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not is_asked():
            return
        if version == "editable":
            raise SystemExit(f"{ASKED_BY} is for `pip install .`: an editable installation runs the sources")
        self._directory = TemporaryDirectory()
        place = Path(self._directory.name)
        shutil.copytree(Path(self.root, "dyno"), place / "dyno", ignore=shutil.ignore_patterns("*.so"))
        listed = modules(Path(self.root), self.config["compile"], self.config["interpret"])
        (place / "setup.py").write_text(SETUP.format(modules=listed))
        flags = f"{C_FLAGS} {os.environ.get('CFLAGS', '')}"  # whoever has flags of his own has the last word
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=place,
            env={**os.environ, "CFLAGS": flags},
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"dyno was not compiled (see above). It needs a C compiler; without {ASKED_BY} none"
            )
        for pattern in ("*.so", "*.pyd"):
            for path in (*place.glob(pattern), *place.glob(f"dyno/**/{pattern}")):
                build_data["force_include"][str(path)] = path.relative_to(place).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if is_asked():
            self._directory.cleanup()


def is_asked() -> bool:
    return os.environ.get(ASKED_BY, "") not in ("", "0")


def modules(root: Path, packages: list[str], interpret: list[str]) -> list[str]:
    """The files of the packages and modules, sorted, without those that stay interpreted."""
    found: list[Path] = []
    for name in packages:
        path = root / name
        found += path.rglob("*.py") if path.is_dir() else [path]
    names = [path.relative_to(root).as_posix() for path in sorted(found)]
    return [name for name in names if name not in interpret]
