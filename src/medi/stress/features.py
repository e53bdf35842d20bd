"""What does a probe do when only the hospital changes, told from features alone? Those of the same patches made again.

A patch is made again where its slide is scanned by another scanner or stained by another laboratory (as in PLISM and
SCORPION), or where another program translates it. Features of the level that a patch has itself are the floor.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from medi.cohort.combinations import over
from medi.cohort.readers import opened, with_features
from medi.cohort.readers.features.files import read_parts
from medi.cohort.readers.features.loading import load_coordinates, load_features, not_compared, same_features
from medi.cohort.readers.features.matching import BY_ID, attach, look
from medi.cohort.readers.normalise import Notes
from medi.cohort.readers.settings import DEFAULTS, Settings
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.locks import holding
from medi.evaluation.features import REAL, Embedded, Features, is_constant
from medi.evaluation.splits import TESTS, TRAIN, check_apart, is_split, spelled_alike
from medi.stress.classifiers import learned
from medi.stress.measuring import UNKNOWN, Asked, some_of
from medi.stress.results import StressResults, answered, refuse_another, worst_of

SHOWN = ("validation", *TESTS)  # splits of the cohort that a probe of its own is shown
TRAINING = "training"  # the set that the probe learns from
NO_FLOOR = (
    "No patch was made again at its own level, so there is no floor. Any second scan changes features a little. The "
    "figures here contain that too."
)
Given = Cohort | str | Path


@holding("out")
def stress_features(
    cohort: Given,
    changed: Mapping[str, str | Path],
    out: str | Path,
    *,
    attribute: str = "",
    features: str | Path | None = None,
    train: Given | None = None,
    most: int | None = None,
    seed: int = 0,
) -> StressResults:
    """Question a linear probe on features: of patches as they are, and of the same patches at other levels.

    changed: by level a file or folder with features of the same patches there, which are matched to the cohort as any
    features are. A level that no patch of the cohort has is taken, and named. attribute: whose levels they are, by
    default the first with levels. features: of the cohort, by default those that it was read with. train: the cohort
    whose training patches the probe learns from; by default this one, of which the other patches are shown then. most:
    patches at most, drawn at random. Writes tables, results.json and stress.html to `out`.

    MediError for a patch without features at some level, for features of two encoders, for such as are not finite or
    the same in all rows, and for a patient, slide or patch that trains and is shown (P5).
    """
    out, real = Path(out), _with_features(cohort, features)
    name = _attribute(real, attribute)
    learns, shown = _parts(real, None if train is None else _with_features(train, None))
    shown = spelled_alike(shown)
    whole = shown.with_columns(**{name: shown.table[name].replace("", UNKNOWN)})
    _check_vary(REAL, whole)
    shown = some_of(whole, most, seed)
    made = {level: _made(real, whole, shown, level, Path(path)) for level, path in changed.items()}
    sets = {REAL: shown, **({TRAINING: learns} if train is not None else {}), **made}
    encoder = same_features(sets)[1] or "features"
    _check_vary(TRAINING, learns)
    said, files = f"probe on {encoder}", {level: str(path) for level, path in changed.items()}
    request = _request(learns, shown, made, seed)
    about = {"classifier": said, "attribute": name, "patches": len(shown), "levels": sorted(made), "changed": files}
    refuse_another(out, about | request)
    probe = learned(learns, lambda rows: Embedded(load_features(rows), rows.table), TRAINING, seed)
    after = [probe.probabilities(load_features(part)) for part in made.values()]
    before = probe.probabilities(load_features(shown))
    asked = _asked(probe.classes, shown, name, list(made), before, np.concatenate(after))
    worst = worst_of(asked, name, Schema.infer(asked.rows, [name]))
    remarks = (*_remarks(asked, real, name), *not_compared(sets))
    return answered(asked, said, name, out, worst, seed, files, remarks, request)


def _with_features(given: Given, features: str | Path | None) -> Cohort:
    cohort = with_features(given if isinstance(given, Cohort) else opened(Path(given)), features)
    if not cohort.has_features:
        where = "the cohort" if isinstance(given, Cohort) else given
        raise MediError(f"{where}: has no features; name those of its patches (--features)")
    return cohort


def _attribute(cohort: Cohort, given: str) -> str:
    """The attribute whose levels change; MediError where the cohort has no such column."""
    name = over(cohort.schema, [given] if given else [])[-1].name
    if name == cohort.schema.classes.name or name not in cohort.table:
        raise MediError(f"the level of no attribute can change: name a column that is not the class, not {name!r}")
    return name


def _parts(real: Cohort, train: Cohort | None) -> tuple[Cohort, Cohort]:
    """The patches to learn from, and those to show: never of one patient, slide or name."""
    if train is None and not is_split(real):
        raise MediError(
            "no patch is for training: hold out combinations first (`medi holdout`), or name another cohort to learn "
            "from (probe:COHORT)"
        )
    source = real if train is None else train
    learns = source.where(split=TRAIN) if is_split(source) else source
    shown = real.where(split=SHOWN) if train is None else real
    if not len(shown):
        raise MediError(f"no patch is there to be shown (splits {', '.join(SHOWN)}): hold out combinations")
    check_apart(learns.table, shown.table, " the probe", " it under stress")
    return learns, shown


def _made(real: Cohort, whole: Cohort, shown: Cohort, level: str, path: Path) -> Cohort:
    """The patches that are shown, with their features at a level.

    The file may lack patches that are not shown, and those of one without names are counted off the whole table.
    """
    found = attach(real, path, Settings(on_error="skip"))
    places = pd.Index(found.table["sample_id"]).get_indexer(shown.table["sample_id"])
    if (lost := places < 0).any():
        for part in read_parts(path):
            look(part, part.path.parent, Notes(), DEFAULTS)  # names a row that was left out as it is broken
        first = shown.table["sample_id"][lost].iloc[0]
        raise MediError(
            f"{path}: {lost.sum():,} of {len(lost):,} patches that are shown have no features at {level}, first "
            f"{first!r}; embed them there too, or leave them out of the cohort"
        )
    _check_changed(whole, found, level)
    made = found.select(places.astype(np.int64))
    if made.info["features"].get("matched") != BY_ID:
        _check_places(shown, made, level)
    return made


def _check_places(shown: Cohort, made: Cohort, level: str) -> None:
    """Rows that were counted off, not named, must lie at one place of their slide, where both files say it."""
    ours, theirs = load_coordinates(shown), load_coordinates(made)
    apart = ((ours != theirs) & ~np.isnan(ours) & ~np.isnan(theirs)).any(axis=1)
    if apart.any():
        row = int(apart.argmax())
        here, there = (tuple(map(int, each[row])) for each in (ours, theirs))
        raise MediError(
            f"{made.table['features'].iloc[row]} at {level} lies at {there}, {shown.table['sample_id'].iloc[row]!r} at "
            f"{here}: not one patch; bring the rows into one order, or name them (sample_id)"
        )


def _check_vary(what: str, cohort: Cohort) -> None:
    if is_constant(load_features(cohort)):
        raise MediError(f"features {what} ({cohort.info['features']['root']}): the same in all rows; embed them again")


def _check_changed(whole: Cohort, found: Cohort, level: str) -> None:
    """Of all patches that may be shown, not of those that were drawn: a few may be the same at both levels."""
    found = found.select(np.flatnonzero(found.table["sample_id"].isin(whole.table["sample_id"])))
    _check_vary(level, found)
    own = whole.select(pd.Index(whole.table["sample_id"]).get_indexer(found.table["sample_id"]).astype(np.int64))
    if np.array_equal(load_features(found), load_features(own)):
        raise MediError(f"features {level}: those of the patches as they are, number by number; name the changed ones")


def _request(learns: Cohort, shown: Cohort, made: Mapping[str, Cohort], seed: int) -> dict[str, object]:
    """What the answer depends on: the seed, and hashes of rows and of the numbers in their files."""
    learned_from, seen = (content_hash(part.digest(), load_features(part).tobytes()) for part in (learns, shown))
    again = {level: content_hash(load_features(part).tobytes()) for level, part in made.items()}
    return {"seed": seed, "learned_from": learned_from, "shown": seen, "made_again": again}


def _asked(
    classes: tuple[str, ...], shown: Cohort, name: str, levels: list[str], before: Features, after: Features
) -> Asked:
    """Every patch that is shown, at each level in turn."""
    table, n = shown.table, len(shown)
    source = np.tile(np.arange(n), len(levels))
    rows = table.iloc[source].reset_index(drop=True).assign(source=table["sample_id"].to_numpy()[source])
    rows[name] = np.repeat(np.array(levels, dtype=object), n)
    own = (rows[name].to_numpy() == table[name].to_numpy()[source]).astype(bool)
    if own.all():
        raise MediError(f"every patch has the {name} {levels[0]} itself: name features at another one")
    return Asked(classes, table, before, rows, after, source, own)


def _remarks(asked: Asked, real: Cohort, name: str) -> list[str]:
    """Which levels the cohort does not have, and whether there is a floor."""
    new = sorted(set(asked.rows[name]) - set(real.table[name]))
    found = [f"No patch of the cohort has the {name} {', '.join(new)}."] if new else []
    return found if asked.own.any() else [*found, NO_FLOOR]
