"""What the compiled build (.build/compile.py) is told to compile, and what mypyc would trip over there."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "hooks"
]
COMPILE, INTERPRET = HOOK["custom"]["compile"], HOOK["custom"]["interpret"]


def compiled() -> list[Path]:
    found: list[Path] = []
    for name in COMPILE:
        path = ROOT / name
        found += path.rglob("*.py") if path.is_dir() else [path]
    return [path for path in found if path.relative_to(ROOT).as_posix() not in INTERPRET]


@pytest.mark.parametrize("name", [*COMPILE, *INTERPRET])
def test_what_is_named_exists(name: str):
    path = ROOT / name
    assert path.is_file() or list(path.rglob("*.py"))


def test_what_stays_interpreted_would_be_compiled_otherwise():
    assert all(any(Path(name).is_relative_to(package) for package in COMPILE) for name in INTERPRET)


def test_the_fields_of_named_tuples_have_types_that_are_imported_when_the_program_runs():
    """mypyc evaluates them as the class is made."""
    missing = []
    for path in compiled():
        tree = ast.parse(path.read_text())
        checking = {
            alias.asname or alias.name
            for block in tree.body
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for line in block.body
            if isinstance(line, ast.ImportFrom)
            for alias in line.names
        }
        for made in ast.walk(tree):
            if isinstance(made, ast.ClassDef) and any(
                ast.unparse(base) == "NamedTuple" for base in made.bases
            ):
                fields = [line.annotation for line in made.body if isinstance(line, ast.AnnAssign)]
                names = {n.id for field in fields for n in ast.walk(field) if isinstance(n, ast.Name)}
                missing += [f"{path.name}: {made.name}: {name}" for name in sorted(names & checking)]
    assert not missing


def test_no_constant_of_a_module_is_a_final_tuple_of_floats():
    """mypyc 2.4 reads one as if it had never been set."""
    found = [
        f"{path.name}:{line.lineno}"
        for path in compiled()
        for line in ast.parse(path.read_text()).body
        if isinstance(line, ast.AnnAssign) and ast.unparse(line.annotation) == "Final"
        if isinstance(line.value, ast.Tuple) and line.value.elts
        if isinstance(line.value.elts[0], ast.Constant) and isinstance(line.value.elts[0].value, float)
    ]
    assert not found


def test_nothing_is_looked_for_in_a_display_with_a_star():
    """mypyc 2.4 ends with an internal error at `a in (b, *c)`."""
    found = [
        f"{path.name}:{line.lineno}"
        for path in compiled()
        for line in ast.walk(ast.parse(path.read_text()))
        if isinstance(line, ast.Compare)
        and any(isinstance(operator, ast.In | ast.NotIn) for operator in line.ops)
        for display in line.comparators
        if isinstance(display, ast.Tuple | ast.List)
        and any(isinstance(item, ast.Starred) for item in display.elts)
    ]
    assert not found


def test_what_takes_a_float_by_default_takes_first_what_is_required():
    """mypyc 2.4 fails to write down the signature of a method that does not."""
    found = []
    for path in compiled():
        for made in ast.walk(ast.parse(path.read_text())):
            if not isinstance(made, ast.FunctionDef):
                continue
            named = list(zip(made.args.kwonlyargs, made.args.kw_defaults, strict=True))
            by_default = [False] * (len(made.args.args) - len(made.args.defaults))
            by_default += [True] * len(made.args.defaults) + [default is not None for _, default in named]
            floats = [
                taken.arg
                for taken, default in named
                if default is not None and taken.annotation and ast.unparse(taken.annotation) == "float"
            ]
            if floats and by_default != sorted(by_default):
                found.append(f"{path.name}: {made.name}")
    assert not found
