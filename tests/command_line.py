"""What the tests of the verbs share: how a run went well, and how a user's mistake is refused."""

from collections.abc import Callable

Medi = Callable[..., tuple[int, str]]


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
