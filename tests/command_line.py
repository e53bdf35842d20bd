"""What the tests of the verbs share: a verb in this process, how it went well, how a user's mistake is refused."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

Medi = Callable[..., tuple[int, str]]
NO_PICTURES = ("medi.report.parts.to_svg", lambda figure: "<svg></svg>")  # what is put in the place of drawing


def here(*arguments: object) -> tuple[int, str]:
    """Exit code and everything printed by `medi ARGUMENTS`, in 100 columns, for what many tests of a file share."""
    from medi.cli import main as cli

    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown), redirect_stderr(shown):
        patch.setattr(sys, "argv", ["medi", *map(str, arguments)])
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return int(stop.value.code or 0), shown.getvalue()


def fine(result: tuple[int, str]) -> str:
    assert result[0] == 0, result[1]
    return result[1]


def refused(result: tuple[int, str], *words: str) -> None:
    """A user's mistake: one line that says what and where, exit code 2."""
    code, text = result
    assert code == 2, text
    line = text.strip().splitlines()[-1]
    assert line.startswith("medi: "), text
    assert not [word for word in words if word not in line], line
    assert "Traceback" not in text
