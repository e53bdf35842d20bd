"""Attributes under another name: NEW=OLD reads the column OLD as NEW."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from medi.cohort.readers.settings import Settings
from medi.core.errors import MediError

AS = "="  # between an attribute and the column that it is read from


def columns_named(attributes: Sequence[str]) -> list[str]:
    """The columns that these attributes may be read from.

    >>> columns_named(["site", "centre=arm"])
    ['site', 'centre=arm', 'arm']
    """
    return [*attributes, *(text.partition(AS)[2] for text in attributes if AS in text)]


def renamed(table: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, Settings]:
    """The table in which an attribute NEW=OLD is the column NEW, and the settings with its new name.

    MediError where there is a column NEW already, or none that is called OLD.
    """
    pairs = [text.partition(AS) for text in settings.attributes or () if text not in table]
    new = {old: name for name, mark, old in pairs if mark and old in table}
    if taken := [name for name in new.values() if name in table]:
        raise MediError(f"attribute {taken[0]!r} has the name of another column; call it something else")
    if not new:
        return table, settings
    return table.rename(columns=new), in_our_words(_named(settings, new), new)


def _named(settings: Settings, new: Mapping[str, str]) -> Settings:
    texts = {f"{name}{AS}{old}": name for old, name in new.items()}
    return replace(settings, attributes=[texts.get(text, text) for text in settings.attributes or ()])


def in_our_words(settings: Settings, names: Mapping[str, str]) -> Settings:
    """The settings whose spellings of "not known" go by our names of columns, where a reader renamed the source's."""
    if not isinstance(settings.missing, Mapping):
        return settings
    return replace(settings, missing={names.get(name, name): texts for name, texts in settings.missing.items()})
