"""From a reader's raw table to a Cohort: patients and slides, TCGA metadata, attributes, checks; each guess is noted.

A reader calls `assemble` with the rows it found. Whatever was not said is guessed and printed from `info["notes"]`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from posixpath import normpath

import numpy as np
import pandas as pd

from medi.cohort import tcga
from medi.cohort.readers.guess import likely_missing
from medi.cohort.readers.identity import one_spelling
from medi.cohort.readers.names import renamed
from medi.cohort.readers.rows import read_rows
from medi.cohort.readers.settings import DEFAULTS as DEFAULTS
from medi.cohort.readers.settings import Settings as Settings
from medi.cohort.schema import RESERVED, Schema, check_names, group_rare
from medi.cohort.slides.region import files_of
from medi.cohort.table import Cohort
from medi.core.errors import MediError, did_you_mean

MAX_LEVELS = 10_000  # more is an id, not an attribute
KNOWN_ATTRIBUTES = (
    "hospital",
    "medical_center",
    "center",
    "centre",
    "site",
    "site_code",
    "scanner",
    "stain",
    "preparation",
    "race",
    "gender",
    "sex",
    "age",
)
SHOWN = 5  # names in a note
LOOKED_AT = 1_000  # columns that are counted for the note on further attributes


class Notes(list[str]):
    """Lines for the user: what was guessed, left out, or looks odd."""

    def reject(self, bad: Sequence[str], what: str, remedy: str, settings: Settings, count: int = 0) -> None:
        """Bad rows or files by name: an error at the first, or a line in the notes, as `on_error` says.

        count: how many there are, where `bad` holds but the first few.
        """
        if not bad:
            return
        count = count or len(bad)
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        if settings.on_error == "fail":
            raise MediError(f"{bad[0]}{more}: {what}; {remedy}, or leave such rows out with on_error skip")
        self.append(f"left out, {what}: {count:,} ({some(bad, count)})")


def some(names: Sequence[str], count: int = 0, most: int = SHOWN) -> str:
    """The first few names, of `count` if not all are given."""
    return ", ".join(names[:most]) + (", ..." if max(count, len(names)) > most else "")


def assemble(
    table: pd.DataFrame,
    source: Path,
    root: Path | None,
    notes: Notes,
    settings: Settings,
    where: Callable[[int], str] | None = None,
) -> Cohort:
    """The cohort of a reader's rows.

    table: text columns; `sample_id` or `image` is there, the other reserved columns where the reader knows them. Its
    index numbers the source's rows. root: the folder that `image` is relative to, None without images. where: the
    place of a row for messages ("metadata.csv line 7").
    """
    place = where or (lambda row: str(table["sample_id"].get(row, f"row {row}")))
    table, settings = renamed(table, settings)
    table = _people(_known_ids(_identify(table), settings), notes)
    if table["patient"].str.startswith("TCGA-").all():
        table = _add_tcga(table, notes, settings)
        settings = replace(settings, missing=_with_gdc(settings, table))
    _check_duplicates(table, place)
    _check_missing(table, settings)
    table = _keep_classes(table, settings)
    attributes = _attributes(table, notes, settings)
    check_names(attributes)
    table = _group_rare(table, settings, notes)
    schema = _schema(table, attributes, notes, settings, place)
    _note_oddities(table, schema, notes)
    info = {"source": str(source), "root": "" if root is None else str(root), "notes": list(notes)}
    return Cohort(table, schema, None, info)


def check_images(
    table: pd.DataFrame, root: Path, notes: Notes, settings: Settings, where: Callable[[int], str]
) -> pd.DataFrame:
    """The rows whose image file is there; where features stand in for images, all rows, named after their images."""
    if settings.features is not None:
        return table.assign(sample_id=table["sample_id" if "sample_id" in table else "image"], image="")
    table = _with_slashes(table, root, notes)
    there = _are_there(table["image"], root)
    lost = table.index[~there]
    bad = [f"{where(row)}: {root / table['image'][row]}" for row in lost[:SHOWN]]
    notes.reject(bad, "no such image file", "correct the path or the root folder", settings, len(lost))
    return _not_empty(table[there], root)


def _are_there(images: pd.Series, root: Path) -> pd.Series:
    """Whether each image's file is there, or its slide where it is a region of one; a slide is looked for once."""
    files = files_of(images) if images.str.contains("#", regex=False).any() else images
    known = {name: (root / name).is_file() for name in files.unique()}
    there = files.map(known)
    odd = ~there & (images != files)  # files whose own names look like regions
    return there | odd & images.where(odd, "").map(lambda name: bool(name) and (root / name).is_file())


def _with_slashes(table: pd.DataFrame, root: Path, notes: Notes) -> pd.DataFrame:
    """Paths as Windows writes them ("tables\\0000.png") with slashes, unless they are there as they stand."""
    windows = table["image"].str.contains("\\", regex=False)
    windows &= ~table["image"].where(windows, "").map(lambda name: bool(name) and (root / name).is_file())
    if not windows.any():
        return table
    notes.append(f"{int(windows.sum())} paths of images have backslashes; they are read as slashes")
    return table.assign(image=table["image"].where(~windows, table["image"].str.replace("\\", "/", regex=False)))


def _not_empty(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    if table.empty:
        raise MediError(f"{source}: no usable rows are left")
    return table


def _identify(table: pd.DataFrame) -> pd.DataFrame:
    """All reserved text columns are there; the sample is named after its image unless it has a name."""
    lacking = {name: "" for name in ("class", "patient", "slide", "image") if name not in table}
    names = {} if "sample_id" in table else {"sample_id": table["image"]}
    return table.assign(**lacking, **names)


def _known_ids(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Ids that are spellings of "not known" are none: all patients called `unknown` are not one person."""
    ids = {name: table[name].mask(table[name].isin(_missing(settings, name)), "") for name in ("patient", "slide")}
    return table.assign(**ids)


def _people(table: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """Unknown slides and patients get the finest safe stand-in: a slide its patient's or image's name, and so on."""
    for column in ("slide", "patient"):
        ids, others = one_spelling(table[column])
        if others:
            shown = [f"{text!r} is {kept!r}" for kept, texts in others.items() for text in texts]
            notes.append(f"{column}: {len(shown)} spellings are read as another one of the same id ({some(shown)})")
            table = table.assign(**{column: ids})
    names = table["slide"]
    if (names == "").any():
        names = names.where(names != "", table["sample_id"].str.rpartition("/")[2])
    codes = tcga.barcodes(names)
    barcoded = codes["patient"] != ""
    slide = table["slide"].where((table["slide"] != "") | ~barcoded, codes["slide"])
    patient = table["patient"].where((table["patient"] != "") | ~barcoded, codes["patient"])
    alone = (slide == "") & (patient == "")
    if alone.any():
        notes.append(
            f"{alone.sum()} images have no patient or slide: each counts as its own, leaks cannot be ruled out"
        )
    if (only := (patient == "") & ~alone).any():
        notes.append(f"{only.sum()} images have no patient: their slide stands for it")
    slide = slide.where(slide != "", patient.where(patient != "", table["sample_id"]))
    return table.assign(slide=slide, patient=patient.where(patient != "", slide))


def _add_tcga(table: pd.DataFrame, notes: Notes, settings: Settings) -> pd.DataFrame:
    """Site code, preparation, study; hospital and clinical data where their tables are given."""
    codes = tcga.barcodes(table["slide"])
    if (codes["patient"] == "").any():
        codes = codes.where(codes["patient"] != "", tcga.barcodes(table["patient"]))
    for name in ("site_code", "tss", "tissue_source_site", "preparation"):
        known = codes["preparation" if name == "preparation" else "site_code"]
        if name in table and (n := int(((table[name] != known) & (known != "")).sum())):
            notes.append(f"column {name!r} disagrees with the barcode in {n} rows; the barcode's value is used")
    if "preparation" in table:
        codes["preparation"] = codes["preparation"].where(codes["preparation"] != "", table["preparation"])
    table = table.assign(site_code=codes["site_code"], preparation=codes["preparation"])
    if settings.clinical is not None:
        table, found = tcga.add_clinical(table, read_rows(settings.clinical))
        notes.extend(found)
    if settings.sites is not None:
        table, found = tcga.add_hospitals(table, read_rows(settings.sites), settings.merge_aliases)
        notes.extend(found)
    known_classes = [name for name in table["class"].unique() if tcga.find_study(name)]
    notes.extend(tcga.check_classes(known_classes))
    notes.append(f"TCGA barcodes: {codes['site_code'].nunique()} site codes, {_counts(codes['preparation'])}")
    return table


def _counts(values: pd.Series) -> str:
    return ", ".join(f"{n} {name or 'unstated'}" for name, n in values.value_counts().items())


def _check_duplicates(table: pd.DataFrame, place: Callable[[int], str]) -> None:
    """An id names one row, and an image is in one row: a copy could come to lie on both sides of a split (P5)."""
    for column, names in (("sample_id", table["sample_id"]), ("image", _one_path(table["image"]))):
        twice = names.duplicated() & (names != "")
        if twice.any():
            name, row = table[column][twice].iloc[0], table.index[twice][0]
            first = table.index[names == names[row]][0]
            raise MediError(f"{place(row)}: {column} {name!r} was there already ({place(first)}); remove or rename one")


def _one_path(images: pd.Series) -> pd.Series:
    """Paths of images with one spelling each: "./a.png" is "a.png"."""
    odd = images.str.contains(r"(?:^|/)\.{1,2}/|//", regex=True)
    return images.mask(odd, images[odd].map(normpath)) if odd.any() else images


def _check_missing(table: pd.DataFrame, settings: Settings) -> None:
    """Spellings of a column that is not there would be taken in silence, and its rows stay levels."""
    named = settings.missing if isinstance(settings.missing, Mapping) else {}
    if unknown := [name for name in named if name not in table]:
        raise MediError(f"missing names no column {unknown[0]!r}; {_known(table, unknown[0])}")


def _known(table: pd.DataFrame, name: str) -> str:
    """The columns that are there, and the nearest to a name."""
    known = _columns(table)
    return f"the columns are {some(known, most=30)}{did_you_mean(name, known)}"


def _keep_classes(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    if settings.classes is None:
        return table
    here = set(table["class"])
    wanted = {name if name in here else _same_study(name, here) for name in settings.classes}
    return table[table["class"].isin(wanted)]


def _same_study(name: str, here: set[str]) -> str:
    code = tcga.find_study(name)
    for candidate in sorted(here):
        if code and tcga.find_study(candidate) == code:
            return candidate
    raise MediError(f"class {name!r} is not here; there are {some(sorted(here))}")


def _attributes(table: pd.DataFrame, notes: Notes, settings: Settings) -> list[str]:
    """The named attributes, or the columns of a usual name that have two levels or more."""
    if settings.attributes is not None:
        return list(settings.attributes)
    known = [name for name in KNOWN_ATTRIBUTES if name in table]
    if {"hospital", "medical_center"} & set(known):
        known = [name for name in known if name != "site_code"]
    known = [name for name in known if table[name][~table[name].isin(_missing(settings, name))].nunique() > 1]
    notes.append(f"attributes guessed: {', '.join(known) or 'none'}")
    rest = [name for name in _columns(table) if name not in {*known, *RESERVED}][:LOOKED_AT]
    others = [name for name in rest if 1 < table[name].nunique() <= 100]
    if others:
        notes.append(f"further columns of 2 to 100 levels: {some(others, most=20)}")
    return known


def _columns(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns]


def _missing(settings: Settings, name: str) -> tuple[str, ...]:
    """The spellings of "not known" in a column; "" always is one."""
    given = settings.missing.get(name, ()) if isinstance(settings.missing, Mapping) else settings.missing or ()
    return tuple(dict.fromkeys(("", *given)))


def _with_gdc(settings: Settings, table: pd.DataFrame) -> Sequence[str] | Mapping[str, Sequence[str]]:
    """GDC's spellings of "not known" wherever the user named none."""
    if isinstance(settings.missing, Mapping):
        return dict.fromkeys(_columns(table), tcga.MISSING) | dict(settings.missing)
    return tcga.MISSING if settings.missing is None else settings.missing


def _group_rare(table: pd.DataFrame, settings: Settings, notes: Notes) -> pd.DataFrame:
    for name, minimum in settings.group_rare.items():
        if name not in table:
            raise MediError(f"group_rare names no column {name!r}; {_known(table, name)}")
        grouped = group_rare(table[name], table["patient"], minimum, _missing(settings, name))
        gone = table[name][grouped != table[name]].nunique()
        notes.append(f"{name}: {gone} levels of fewer than {minimum} patients became 'other'")
        table = table.assign(**{name: grouped})
    return table


def _schema(
    table: pd.DataFrame, attributes: list[str], notes: Notes, settings: Settings, place: Callable[[int], str]
) -> Schema:
    columns = ["class", *attributes]
    if lacking := [name for name in columns if name not in table]:
        raise MediError(f"no column {', '.join(lacking)}; {_known(table, lacking[0])}")
    missing = {name: _missing(settings, name) for name in columns}
    continuous = _continuous(table, attributes, missing, notes, settings)
    for name in columns:
        known = table[name][~table[name].isin(missing[name])]
        _check_numbers(known, place) if name in continuous else _check_levels(known, name, notes)
    return Schema.infer(table, attributes, continuous, missing)


def _continuous(
    table: pd.DataFrame,
    attributes: list[str],
    missing: Mapping[str, Sequence[str]],
    notes: Notes,
    settings: Settings,
) -> list[str]:
    """The named continuous attributes; `age` also when its attribute was guessed and every known value is a number."""
    if unknown := [name for name in settings.continuous if name not in attributes]:
        raise MediError(
            f"continuous {', '.join(unknown)}: not among the attributes {', '.join(attributes) or '(none)'}"
        )
    if settings.attributes is not None or "age" not in attributes:
        return list(settings.continuous)
    known = pd.to_numeric(table["age"][~table["age"].isin(missing["age"])], errors="coerce")
    if known.isna().any():
        return list(settings.continuous)
    notes.append("age is continuous")
    return ["age", *(name for name in settings.continuous if name != "age")]


def _check_numbers(known: pd.Series, place: Callable[[int], str]) -> None:
    numbers = pd.to_numeric(known, errors="coerce")
    broken = ~np.isfinite(numbers.to_numpy(dtype=np.float64))
    if broken.any():
        row = known.index[int(np.argmax(broken))]
        raise MediError(f"{place(row)}: {known.name} {known[row]!r} is not a number; mend it or declare it as missing")
    if known.empty:
        raise MediError(f"{known.name!s} is missing in every row; leave it out of the attributes")


def _check_levels(known: pd.Series, name: str, notes: Notes) -> None:
    levels = known.unique()
    if len(levels) > MAX_LEVELS:
        raise MediError(
            f"{name} has {len(levels):,} levels, over {MAX_LEVELS:,}: an id rather than an attribute; name another"
        )
    if not len(levels) and name != "class":
        raise MediError(f"{name} is missing in every row; leave it out of the attributes")
    if doubtful := likely_missing(map(str, levels)):
        option = " ".join(f"--missing '{name}={text}'" for text in doubtful[:SHOWN])
        notes.append(f"{name}: {some(doubtful)} look like missing values but are levels; if they are missing: {option}")
    if len(levels) == 1:
        notes.append(f"{name} has one level ({levels[0]}): it says nothing about an image")
    folded = pd.Series(levels, dtype=object).astype(str).str.strip().str.casefold()
    alike = [repr(level) for level, double in zip(levels, folded.duplicated(keep=False)) if double]
    if alike:
        notes.append(f"{name}: {some(alike)} differ only in case or blanks; are they one level?")


def _note_oddities(table: pd.DataFrame, schema: Schema, notes: Notes) -> None:
    unlabelled = int(table["class"].isin(schema.classes.missing).sum())
    if unlabelled:
        notes.append(f"{unlabelled} rows have no class")
    classes = table[["patient", "class"]].drop_duplicates()["patient"]
    if len(several := sorted(classes[classes.duplicated()].unique())):
        notes.append(f"{len(several)} patients are in more than one class ({some(several)}); hold-outs keep them whole")
    patients = table[["slide", "patient"]].drop_duplicates()["slide"]
    if len(shared := sorted(patients[patients.duplicated()].unique())):
        raise MediError(f"slide {shared[0]!r} belongs to two patients; correct the patient column")
