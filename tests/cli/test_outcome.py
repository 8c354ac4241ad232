from __future__ import annotations

import errno

import pytest
import typer

from dyno import errors
from dyno.cli.outcome import UsageError, one_line, outcome_of, report
from dyno.cli.output import ReaderGone


def shortfall(
    kind: type[errors.QuorumNotMet] | type[errors.RequestTimeout], *, indeterminate: bool
) -> Exception:
    return kind("too few", needed=2, answered=1, nodes=("n1",), indeterminate=indeterminate)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.InvalidRequest("no"), 2, "dyno: no"),
        (errors.ConfigurationError("no"), 2, "dyno: no"),
        (errors.DynoError("no"), 2, "dyno: no"),
        (errors.ConflictError("two", siblings=[], context=b""), 3, "dyno: two"),
        (shortfall(errors.QuorumNotMet, indeterminate=False), 4, "dyno: too few"),
        (
            shortfall(errors.RequestTimeout, indeterminate=True),
            4,
            "dyno: too few; some replica may have kept the write, so read before you repeat it",
        ),
        (errors.Overloaded("busy", retry_after=0.1), 6, "dyno: busy; try again in 0.1 s"),
        (errors.StorageFailed("full"), 6, "dyno: full"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a\nb"), 2, "dyno: a b: No such file"),
        (OSError("odd"), 2, "dyno: odd"),
        (UsageError("Missing argument 'KEY'."), 2, "dyno: missing argument 'KEY'; see dyno --help"),
        (typer.Exit(3), 3, None),
        (typer.Abort(), 130, None),
        (KeyboardInterrupt(), 130, None),
        (ReaderGone(), 0, None),
    ],
)
def test_every_end_has_its_code_and_one_line(error: BaseException, code: int, said: str | None) -> None:
    assert outcome_of(error) == (code, said)


def test_who_cannot_connect_is_told_what_to_do() -> None:
    code, line = outcome_of(errors.ConnectFailed("no listed node could be reached"))
    assert code == 5
    assert line is not None
    assert "dyno cluster" in line
    assert "--node" in line


def test_a_group_of_one_is_that_one() -> None:
    group = BaseExceptionGroup("", [ExceptionGroup("", [errors.StorageFailed("full")])])
    assert outcome_of(group) == (6, "dyno: full")


def test_ctrl_c_wins_over_its_company() -> None:
    group = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [KeyboardInterrupt()])])
    assert outcome_of(group).code == 130


def test_even_a_bug_is_one_line() -> None:
    code, line = outcome_of(ValueError("first\nsecond"))
    assert code == 2
    assert line is not None
    assert line.startswith("dyno: internal error: ValueError: first second (")


def test_a_traceback_is_shown_to_who_asks(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNO_TRACEBACK", raising=False)
    assert report(errors.InvalidRequest("no")) == 2
    assert capfd.readouterr().err == "dyno: no\n"
    monkeypatch.setenv("DYNO_TRACEBACK", "1")
    report(errors.InvalidRequest("no"))
    assert "InvalidRequest: no" in capfd.readouterr().err


def test_a_line_cannot_drive_the_terminal() -> None:
    assert one_line("a\tb\r\n c") == "a b c"
    assert len(one_line("x" * 5000)) == 1001
    assert one_line("\x1b[31m\u202e\udcff") == "\\x1b[31m\\u202e\\udcff"
