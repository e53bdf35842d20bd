"""Folders of images: one folder per class, or any layout whose names a pattern with named groups takes apart."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from medi.cohort.readers.files import list_images
from medi.cohort.readers.normalise import DEFAULTS, Notes, Settings, assemble
from medi.cohort.schema import RESERVED
from medi.cohort.table import Cohort
from medi.core.errors import MediError

CLASS_FOLDERS = r"(?P<label>[^/]+)/.+"


def read(source: Path, pattern: str | None = None, settings: Settings = DEFAULTS) -> Cohort:
    r"""A cohort from the images below `source`.

    pattern: a regular expression found in each path relative to `source` ("/" between parts). Its named groups become
    columns: `label` (or `class`) is the class, `patient`, `slide` and `sample_id` are themselves, all others are
    attributes unless `settings` names some. Without it the first folder is the class.

    Example: pattern=r"(?P<label>[^/]+)/slide(?P<slide>\d+)_(?P<scanner>\w+)"
    """
    notes = Notes()
    names = pd.Series(list_images(source, notes, settings), dtype="str")
    matcher = _compile(pattern or CLASS_FOLDERS)
    groups = names.str.extract(matcher).rename(columns={"label": "class"})
    unmatched = ~names.str.contains(re.sub(r"\?P<\w+>", "?:", matcher.pattern), regex=True)
    notes.reject(list(names[unmatched]), f"not of the form {matcher.pattern!r}", "give a pattern that fits", settings)
    table = groups.fillna("").assign(image=names)[~unmatched]
    if table.empty:
        raise MediError(f"{source}: no image path is of the form {matcher.pattern!r}; give a pattern that fits")
    if settings.mpp is not None:
        table = table.assign(mpp=settings.mpp)
    return assemble(table, source, source, notes, _with_groups(settings, matcher, notes), lambda row: str(names[row]))


def _compile(pattern: str) -> "re.Pattern[str]":
    try:
        matcher = re.compile(pattern)
    except re.error as error:
        raise MediError(f"pattern {pattern!r} is no regular expression: {error}") from error
    if not matcher.groupindex or matcher.groups != len(matcher.groupindex):
        raise MediError(f"pattern {pattern!r} needs named groups only, like (?P<site>[^/]+)")
    if clash := (set(RESERVED) - {"class", "patient", "slide", "sample_id"}) & set(matcher.groupindex):
        raise MediError(f"pattern {pattern!r}: group {sorted(clash)[0]!r} is a reserved name; the class is `label`")
    return matcher


def _with_groups(settings: Settings, matcher: "re.Pattern[str]", notes: Notes) -> Settings:
    """The pattern's own groups are the attributes unless the user named others."""
    own = [name for name in matcher.groupindex if name not in ("label", *RESERVED)]
    if settings.attributes is not None or not own:
        return settings
    notes.append(f"attributes from the pattern: {', '.join(own)}")
    return replace(settings, attributes=own)
