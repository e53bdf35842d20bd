"""One person, one spelling: ids that differ in what no eye sees are one id, so that nobody is on two sides of a split.

Blanks, non-breaking blanks, zero-width marks, composed and decomposed accents, kinds of dashes, case, and `7` beside
`7.0`: each of these made two people of one. Joining them can only make a hold-out stricter, never leaky.
"""

import re
import unicodedata

import pandas as pd

DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\uff0d"), "-")
UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"), None)


def key_of(text: str) -> str:
    """What two spellings of one id share.

    >>> key_of("Pat07 ") == key_of("pat07")
    True
    >>> key_of("7.0") == key_of("7")
    True
    """
    plain = unicodedata.normalize("NFKC", text).translate(UNSEEN).translate(DASHES)
    plain = re.sub(r"\s+", " ", plain).strip().casefold()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", plain)


def one_spelling(ids: pd.Series) -> tuple[pd.Series, dict[str, list[str]]]:
    """The ids with one spelling each, the first that occurs; and, by that spelling, the others that it now stands for.

    Empty ids, and those of blanks alone, become "".
    """
    spellings = pd.Series(ids.unique(), dtype=object)
    keys = spellings.str.casefold()  # enough for plain letters and digits, which a million ids may be
    is_odd = ~spellings.str.fullmatch(r"[\w-]+", flags=re.ASCII).astype(bool)
    keys[is_odd] = spellings[is_odd].map(key_of)
    first = spellings.groupby(keys, sort=False).first().to_dict()
    chosen = {text: "" if key == "" else first[key].strip() for text, key in zip(spellings, keys)}
    others: dict[str, list[str]] = {}
    for text, kept in chosen.items():
        if kept and text != kept:
            others.setdefault(kept, []).append(text)
    return ids.map(chosen).astype(ids.dtype), others
