"""The one exception for a user's mistake: its message is shown as it is, without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class MediError(Exception):
    """What was found, what was expected, which file or row, and what to do; the CLI exits with code 2.

    >>> import medi
    >>> try:
    ...     medi.read("nowhere.csv")
    ... except medi.MediError as error:
    ...     print(error)
    nowhere.csv: no such file or folder
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the nearest known one, or nothing where none is near.

    >>> did_you_mean("hein", ["ddim", "heun"]), did_you_mean("euler", ["ddim", "heun"])
    ("; did you mean 'heun'?", '')
    """
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
