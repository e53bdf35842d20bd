"""Lists in one text, as options take them: names between commas, in double quotes where a name has a comma itself."""

import re
from collections.abc import Iterable, Sequence

from medi.core.errors import MediError

_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(,|$)')
_PLAIN = re.compile(r"([^,]*)(,|$)")


def split_commas(given: Sequence[str]) -> list[str]:
    """a,b and repeated options are the same; blanks around a name are no part of it. MediError for an open quote.

    Quotes are those of CSV: around a whole name that has a comma, and doubled within.

    >>> split_commas(["a, b", "c"])
    ['a', 'b', 'c']
    >>> split_commas(['"Adenocarcinoma, NOS",Melanoma'])
    ['Adenocarcinoma, NOS', 'Melanoma']
    """
    return [name for text in given for name in _names(text) if name]


def join_commas(names: Iterable[str]) -> str:
    """One text that `split_commas` takes apart again.

    >>> join_commas(["Adenocarcinoma, NOS", "Melanoma"])
    '"Adenocarcinoma, NOS",Melanoma'
    """
    return ",".join(_quoted(name) for name in names)


def _names(text: str) -> Iterable[str]:
    place = 0
    while place < len(text):
        quoted = text[place:].lstrip().startswith('"')
        found = (_QUOTED if quoted else _PLAIN).match(text, place)
        if found is None:
            raise MediError(f"{text!r}: a quote is not closed before a comma; write '\"a, b\",c' for 'a, b' and 'c'")
        yield found[1].replace('""', '"') if quoted else found[1].strip()
        place = found.end()


def _quoted(name: str) -> str:
    plain = "," not in name and not name.startswith('"') and name == name.strip()
    return name if plain else '"' + name.replace('"', '""') + '"'
