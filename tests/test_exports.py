"""`import dyno`: all names, at no cost."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest

import dyno
from dyno.errors import DynoError

HEAVY = ("trio", "asyncio", "lmdb", "cbor2", "msgspec", "mmh3", "typer", "rich", "dyno.client", "dyno.server")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_brings_neither_an_event_loop_nor_a_storage_engine():
    loaded = run("import sys, dyno; print(*sys.modules)").split()
    assert "dyno.errors" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_the_client_comes_without_the_server():
    loaded = run("import sys, dyno; dyno.connect; print(*sys.modules)").split()
    assert "dyno.client.client" in loaded
    server = [name for name in loaded if name == "lmdb" or name.startswith(("dyno.server", "dyno.storage"))]
    assert server == []


@pytest.mark.parametrize("name", dyno.__all__)
def test_every_name_is_there_and_is_the_same_each_time(name):
    assert getattr(dyno, name) is getattr(dyno, name)
    assert name in dir(dyno)


def test_the_names_before_they_are_loaded():
    assert "connect" in run("import dyno; print(*dir(dyno))").split()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dyno.nonsense


def test_all_errors_are_dyno_errors():
    errors = [dyno.InvalidRequest, dyno.ConflictError, dyno.QuorumNotMet, dyno.RequestTimeout]
    errors += [dyno.Overloaded, dyno.StorageFailed, dyno.ConnectFailed, dyno.ConfigurationError]
    assert all(issubclass(error, DynoError) for error in errors)
    assert dyno.DynoError is DynoError
    assert dyno.__version__


def test_type_checkers_may_trust_the_annotations():
    assert files(dyno).joinpath("py.typed").is_file()
