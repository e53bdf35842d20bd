"""Lists in one text, as options take them: names between commas, in double quotes where a name has a comma itself."""

import re
from collections.abc import Iterable, Iterator, Sequence

from medi.core.errors import MediError

COMMA = ","


def split_commas(given: Sequence[str]) -> list[str]:
    """a,b and repeated options are the same; blanks around a name are no part of it. MediError for an open quote.

    Quotes are those of CSV: around a whole name that has a comma, and doubled within.

    >>> split_commas(["a, b", "c"])
    ['a', 'b', 'c']
    >>> split_commas(['"Adenocarcinoma, NOS",Melanoma'])
    ['Adenocarcinoma, NOS', 'Melanoma']
    """
    return [name for text in given for name in split_at(text, COMMA) if name]


def split_at(text: str, mark: str) -> Iterator[str]:
    """The names between the marks of a text, those in quotes as they are, others without blanks around them.

    >>> list(split_at('LUAD x "10 x 10"', " x "))
    ['LUAD', '10 x 10']
    """
    quoted = re.compile(rf'\s*"((?:[^"]|"")*)"\s*?({re.escape(mark)}|\s*$)')
    plain = re.compile(rf"(.*?)({re.escape(mark)}|$)", re.DOTALL)
    place = 0
    while place < len(text):
        is_quoted = text[place:].lstrip().startswith('"')
        found = (quoted if is_quoted else plain).match(text, place)
        if found is None:
            raise MediError(f"{text!r}: a quote is not closed before {mark!r}; write '\"a{mark}b\"{mark}c'")
        yield found[1].replace('""', '"') if is_quoted else found[1].strip()
        place = found.end()


def join_commas(names: Iterable[str]) -> str:
    """One text that `split_commas` takes apart again.

    >>> join_commas(["Adenocarcinoma, NOS", "Melanoma"])
    '"Adenocarcinoma, NOS",Melanoma'
    """
    return COMMA.join(_quoted(name) for name in names)


def _quoted(name: str) -> str:
    plain = COMMA not in name and not name.startswith('"') and name == name.strip()
    return name if plain else '"' + name.replace('"', '""') + '"'
