"""A study for a cohort that nobody has described yet: what its columns seem to be, and settings that fit it.

`look` reads, `propose` chooses, and `medi init` asks a person in between; `study.file_text` writes the commented file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort import readers
from medi.cohort.image_fit import Mode, read_sizes
from medi.cohort.readers.files import list_images
from medi.cohort.readers.forms import form_of
from medi.cohort.readers.guess import (
    ATTRIBUTES,
    NOT_ATTRIBUTES,
    PATIENTS_OWN,
    column_of,
    likely_missing,
    plain,
    rank_of_attribute,
)
from medi.cohort.readers.normalise import DEFAULTS, Notes
from medi.cohort.readers.table import rows_of
from medi.cohort.schema import RESERVED
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.tables import OWN_COLUMNS
from medi.study.proposed_holdout import holdout_for
from medi.training.presets import preset

ROLES = ("label", "image", "patient", "slide")  # columns of a table that are found by their names
CLASSES_ALONE = (
    "the folders say the class alone; a study compares the levels of an attribute (hospital, scanner, laboratory)"
)
MOST_LEVELS = 200  # of an attribute that is proposed
MOST_NUMBERS = 10  # levels that are all numbers, beyond which a column is a measurement
TOGETHER = 3  # attributes that are proposed at once
PRESETS = {32: "laptop32", 64: "laptop64", 128: "patch128", 256: "patch256"}  # by size
LARGE = 512  # side of an image, in pixels, from which it is cut into tiles
SMALL = 48  # side below which images are packed at 32 px
PATTERNS = {  # by the number of folders above every image: class, where it comes from, who it is of
    2: r"(?P<label>[^/]+)/(?P<site>[^/]+)/.+",
    3: r"(?P<label>[^/]+)/(?P<site>[^/]+)/(?P<patient>[^/]+)/.+",
}


@dataclass(frozen=True)
class Look:
    """What lies at a source: the reader that fits, the columns of a table, and the options that read it.

    columns: of a table, else none. options: those of the reader; of a table also the columns of ROLES, "" for none.
    """

    path: Path
    kind: str
    columns: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, **options: Any) -> "Look":
        """The same with other options."""
        return Look(self.path, self.kind, self.columns, {**self.options, **options})

    def read(self, attributes: Sequence[str] = ()) -> Cohort:
        """The cohort with these attributes. A packed cohort has its own."""
        if self.kind == "packed":
            return Cohort.load(self.path)
        return readers.read(self.path, self.kind, **{**self.options, "attributes": list(attributes)})


@dataclass(frozen=True)
class Proposal:
    """A study that fits a cohort. `missing`: by column the levels that look like "not known"; `size`: in pixels."""

    look: Look
    cohort: Cohort
    attributes: tuple[str, ...]
    others: tuple[str, ...]
    size: int
    mode: Mode
    holdout: Mapping[str, Any]
    missing: Mapping[str, Sequence[str]]

    @property
    def preset(self) -> str:
        """Network and training; of another size than the presets have, laptop64 where its network takes such patches,
        else laptop32."""
        usual = PRESETS[64]
        return PRESETS.get(self.size, usual if self.size % preset(usual).network.step == 0 else PRESETS[32])

    @property
    def as_read(self) -> list[str]:
        """The attributes as a reader is told them: NEW=OLD where the user named a column anew."""
        texts = {text.partition("=")[0]: text for text in self.look.options.get("attributes", ())}
        return [texts.get(name, name) for name in self.attributes]

    @property
    def images_per_combination(self) -> int:
        """As many as the largest combination has, between 20 and 200."""
        found = self.cohort.table.groupby(["class", self.attributes[0]]).size()
        return int(min(max(found.max(), 20), 200))


def look(path: Path, kind: str = "auto", options: Mapping[str, Any] | None = None) -> Look:
    """How a source can be read; what `options` say is not guessed. MediError where nothing is there."""
    given = dict(options or {})
    if kind == "auto" and (path / "cohort.json").exists():
        return Look(path, "packed")
    kind = readers.guess_kind(path) if kind == "auto" else kind
    if kind == "table":
        return _look_at_table(path, given)
    if kind == "folder" and "pattern" not in given and (pattern := _pattern(path)):
        given["pattern"] = pattern
    return Look(path, kind, (), given)


def _look_at_table(path: Path, given: Mapping[str, Any]) -> Look:
    file = path / "metadata.csv" if (path / "metadata.csv").exists() else path
    rows, _ = rows_of(file, [text for text in given.values() if isinstance(text, str)], form_of(given))
    columns = tuple(map(str, rows.columns))
    roles = {role: column_of(role, columns) for role in ROLES}
    return Look(path, "table", columns, {**roles, **given})


def _pattern(folder: Path) -> str:
    """What the folders above the images say beside the class, "" where that is not plain."""
    parts = [name.split("/")[:-1] for name in list_images(folder, Notes(), DEFAULTS)]
    depth = min(map(len, parts))
    pairs = {(found[0], found[1]) for found in parts} if depth > 1 else set()
    second = [name for _, name in pairs]
    shared = {name for name in second if second.count(name) > 1}
    return PATTERNS.get(min(depth, 3), "") if len(shared) * 2 > len(set(second)) else ""


def attributes_of(table: pd.DataFrame) -> list[str]:
    """The columns of a cohort's table that can be an attribute: those with a usual name first, then by levels."""
    found = [
        str(name)
        for name in table.columns
        if name not in (*RESERVED, *OWN_COLUMNS) and _can_be_attribute(table, str(name))
    ]
    return sorted(found, key=lambda name: (rank_of_attribute(name), table[name].nunique()))


def _can_be_attribute(table: pd.DataFrame, name: str) -> bool:
    values = table[name][table[name] != ""]
    known = values[~values.isin(likely_missing(values.unique()))]
    levels = known.nunique()
    if plain(name) in NOT_ATTRIBUTES or not 2 <= levels <= min(MOST_LEVELS, max(len(table) // 4, 2)):
        return False
    if levels > MOST_NUMBERS and pd.to_numeric(known, errors="coerce").notna().all():
        return False
    return not _same(table, name, "class")


def _same(table: pd.DataFrame, first: str, second: str) -> bool:
    """Whether each level of one column goes with one level of the other, and the other way round."""
    pairs = len(table[[first, second]].drop_duplicates())
    return pairs == table[first].nunique() == table[second].nunique()


def _apart(table: pd.DataFrame, first: str, second: str) -> bool:
    """Whether neither of two columns determines the other."""
    pairs = len(table[[first, second]].drop_duplicates())
    return pairs > max(table[first].nunique(), table[second].nunique())


def together(table: pd.DataFrame, chosen: str) -> tuple[str, ...]:
    """The chosen attribute, and further ones of how an image was made that can be told apart from it."""
    found = [chosen]
    for name in attributes_of(table):
        is_technical = rank_of_attribute(name) < PATIENTS_OWN
        if is_technical and len(found) < TOGETHER and all(_apart(table, name, other) for other in found):
            found.append(name)
    return tuple(found)


def propose(found: Look, attribute: str = "", seed: int = 0) -> Proposal:
    """A study of a source that was looked at. MediError says what is lacking.

    attribute: what the class is crossed with; the likeliest where it is not said.
    """
    bare = found.read()
    if found.kind == "table" and not found.options.get("label"):
        raise MediError(f"{found.path}: no column looks like the class; name it with --label: {_some(found.columns)}")
    own = [a.name for a in bare.schema.attributes if a.kind == "categorical"]
    names = own or attributes_of(bare.table)
    given = list(found.options.get("attributes", ()))
    if not (names or given or attribute):
        raise MediError(f"{found.path}: {_nothing(found, bare)}")
    first = attribute or (given or names)[0]
    chosen = tuple(given or own or together(bare.table, first))
    cohort = found.read(chosen)
    read_as = [a.name for a in cohort.schema.attributes]
    first = read_as[chosen.index(first)] if first in chosen else first
    size, mode = _size(cohort)
    return Proposal(
        look=found,
        cohort=cohort,
        attributes=(first, *(name for name in read_as if name != first)),
        others=tuple(name for name in attributes_of(cohort.table) if name not in read_as),
        size=size,
        mode=mode,
        holdout=holdout_for(cohort, first, seed),
        missing=dict(_doubtful(cohort)),
    )


def _nothing(found: Look, cohort: Cohort) -> str:
    if found.kind == "folder":
        return CLASSES_ALONE
    table, columns = cohort.table, [str(name) for name in cohort.table if name not in RESERVED]
    usual = [name for name in columns if rank_of_attribute(name) < len(ATTRIBUTES)]
    why = [f"{name} has one level" for name in usual if table[name].nunique() == 1]
    why += [f"{name} is the class in other words" for name in usual if _same(table, name, "class")]
    why += [
        f"{name} has the name of a column of ours: --attributes my_{name}={name}" for name in OWN_COLUMNS & {*usual}
    ]
    return (
        f"no column can be the attribute that a study compares, of 2 to {MOST_LEVELS} levels (hospital, scanner, "
        f"laboratory): {'; '.join(why) or 'the columns are ' + _some(columns)}; name one with --attributes"
    )


def _doubtful(cohort: Cohort) -> Iterator[tuple[str, Sequence[str]]]:
    for condition in cohort.schema.conditions:
        if texts := likely_missing(condition.levels):
            yield condition.name, texts


def _size(cohort: Cohort) -> tuple[int, Mode]:
    """The side of the packed patches, and how images become patches, from the sizes of a few images."""
    if cohort.pixels is not None:
        return cohort.pixels.size, "resize"
    if not cohort.info.get("root"):
        raise MediError(
            f"{cohort.info['source']}: no column looks like the image's path; name it with --image. "
            "Without images there is no study, but `medi audit` judges the table"
        )
    step = max(len(cohort) // 12, 1)
    sizes = read_sizes(Path(cohort.info["root"]), list(cohort.table["image"][::step]))
    if not sizes:
        return 64, "resize"
    side = min(min(size) for size in sizes)
    is_square = all(width == height for width, height in sizes)
    mode: Mode = "tile" if side > LARGE else "resize" if is_square else "crop"
    return (64 if side >= (SMALL if is_square else 64) else 32), mode


def _some(names: Sequence[str], most: int = 30) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
