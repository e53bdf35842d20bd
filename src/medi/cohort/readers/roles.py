"""Which column of a table is the class, the patient, the slide and the id: as named, or the likeliest that is there."""

from collections.abc import Mapping

import pandas as pd

from medi.cohort.readers.guess import column_of
from medi.cohort.readers.normalise import Notes, Settings, some
from medi.core.errors import MediError

OURS = {"label": "class", "patient": "patient", "slide": "slide", "id": "sample_id"}  # our column of each role
OFFICIAL = "official_split"  # a column `split` that came with a table, whose entries are not ours


def columns_of(rows: pd.DataFrame, named: Mapping[str, str | None], notes: Notes) -> dict[str, str]:
    """The column of each role, "" for none. named: what the user said; None: to be guessed."""
    return {role: column_named(rows, role, name, notes) for role, name in named.items()}


def column_named(rows: pd.DataFrame, role: str, name: str | None, notes: Notes) -> str:
    """The column of a role: as named, or the likeliest that is there; "" for none."""
    if name is None:
        name = column_of(role, [str(column) for column in rows.columns])
        notes.append(f"{role} from column {name!r}" if name else f"no column for {role}")
    if name and name not in rows:
        raise MediError(f"no column {name!r} for {role}; the columns are {some(list(map(str, rows.columns)), most=30)}")
    return name


def renamed_roles(rows: pd.DataFrame, roles: dict[str, str]) -> pd.DataFrame:
    """The rows with our reserved names; columns of such a name that play another role go."""
    taken = {OURS[role]: rows[column] for role, column in roles.items() if column}
    others = [
        c
        for c in rows.columns
        if c not in (*roles.values(), *OURS.values(), "image", "mpp", "split", "origin", "noise_id")
    ]
    return rows[others].assign(**taken)


def with_official(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows with a split that came with them under a name that is not ours; MediError where it is not there."""
    name = settings.split_column
    if name is not None and name not in rows:
        raise MediError(
            f"no column {name!r} for the split; the columns are {some(list(map(str, rows.columns)), most=30)}"
        )
    return rows.assign(**{OFFICIAL: rows[name]}) if name == "split" else rows
