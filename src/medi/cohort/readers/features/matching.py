"""Which row of features belongs to which row of the patch table. One rule, the first that can be followed:

1. by sample id: every file names its rows (`sample_id`, the index of an AnnData), and the table has such names;
2. by slide: a file is called like a slide, or has a column `slide`. Where the table has one row per slide, every row of
   features becomes a patch with what the table says of the slide. Where it has several, they are matched by coordinates
   if both have them, else row by row in the file's order, which needs equal numbers;
3. by order: one file without names, as many rows as the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medi.cohort.readers.features.files import Together, feature_files
from medi.cohort.readers.features.formats import Coordinates, Part, coordinates_in, read_part, whole_numbers
from medi.cohort.readers.guess import column_of
from medi.cohort.readers.identity import key_of
from medi.cohort.readers.normalise import Notes, some
from medi.cohort.readers.settings import DEFAULTS, Settings
from medi.cohort.table import Cohort
from medi.core.errors import MediError

SCANS = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", ".scn", ".dcm", ".vms", ".bif", ".qptiff", ".isyntax", ".czi")
BY_ID = "by sample id"
MARK = "!"  # between a file and a row in the column `features`


@dataclass(frozen=True)
class Seen:
    """What matching needs of a file: which rows are usable, their names, slides and coordinates."""

    name: str
    usable: Bool[np.ndarray, " n"]
    ids: Sequence[str] | None
    slides: Sequence[str] | None
    coords: Coordinates | None

    def __len__(self) -> int:
        return len(self.usable)

    def place(self, row: int) -> str:
        """Where a row stands, as the column `features` has it."""
        return f"{self.name}{MARK}{row}"


@dataclass(frozen=True)
class Matched:
    """rows: of the table; places, ids: of each in the files and in the new table; how: the rule, in words."""

    rows: Int64[np.ndarray, " m"]
    places: list[str]
    ids: list[str]
    how: str


def attach(cohort: Cohort, path: Path, settings: Settings = DEFAULTS) -> Cohort:
    """The cohort with the column `features`, and what its files say in info["features"]; the numbers are read later.

    MediError names the file and the row of numbers that are not finite, coordinates that occur twice, two encoders, and
    a slide whose numbers of rows differ. With on_error "skip" such rows are left out and noted.
    """
    notes, together = Notes(cohort.notes), Together()
    files = feature_files(path)
    root = path if files != [path] else path.parent
    if _are_its_own(cohort, root, files):
        return cohort
    seen = []
    for file in files:
        part = read_part(file)
        together.add(part)
        seen.append(look(part, root, notes, settings))
    found = _match(cohort.table, seen, notes, settings)
    table = cohort.table.iloc[found.rows].assign(sample_id=found.ids, features=found.places)
    _unique(table)
    notes += said_of(together, seen, found.how)
    pixels = None if cohort.pixels is None else cohort.pixels.select(found.rows)
    info = {**cohort.info, "features": {**about(root, together), "matched": found.how}, "notes": list(notes)}
    if pixels is None and not (table["image"] != "").any():
        info |= {"root": ""}  # images that were not looked for are not there to be packed
    return Cohort(table.reset_index(drop=True), cohort.schema, pixels, info)


def _are_its_own(cohort: Cohort, root: Path, files: Sequence[Path]) -> bool:
    """Whether the table was read with these files; another file may stand in the same folder."""
    if not cohort.has_features or cohort.info["features"]["root"] != str(root.resolve()):
        return False
    used = cohort.table["features"].str.rpartition(MARK)[0].unique()
    return set(used) <= {file.relative_to(root).as_posix() for file in files}


def about(root: Path, together: Together) -> dict[str, object]:
    """What a cohort keeps of its features."""
    said = {"width": together.width, "encoder": together.encoder, "transform": together.transform}
    return {"root": str(root.resolve()), **said}


def said_of(together: Together, seen: Sequence[Seen], how: str) -> Iterator[str]:
    """Notes: how much there is, of which encoder, how it was matched, and numbers that never vary."""
    rows, made = sum(map(len, seen)), together.encoder or "no encoder named"
    yield f"features: {len(seen):,} files, {rows:,} rows of {together.width:,} numbers ({made}); matched {how}"
    if together.constant:
        yield f"{together.constant:,} of {together.width:,} features are the same in all rows"


def look(part: Part, root: Path, notes: Notes, settings: Settings) -> Seen:
    """A file's rows once they are checked."""
    name = part.path.relative_to(root).as_posix()
    whole = np.isfinite(part.features).all(axis=1)
    broken = [f"{part.path} row {row + 1}" for row in np.flatnonzero(~whole)]
    notes.reject(broken, "features that are not finite (NaN or infinite)", "embed the patch again", settings)
    once = _once(part, notes, settings)
    columns = [str(column) for column in part.columns.columns]
    ids, slides = ("sample_id" if "sample_id" in columns else ""), column_of("slide", columns)
    texts = {key: part.columns[column].tolist() if column else None for key, column in (("i", ids), ("s", slides))}
    return Seen(name, whole & once, texts["i"], texts["s"], part.coords)


def _once(part: Part, notes: Notes, settings: Settings) -> Bool[np.ndarray, " n"]:
    """Which rows are the first with their coordinates, in their slide where a file has several."""
    if part.coords is None:
        return np.ones(len(part), dtype=bool)
    slide = column_of("slide", list(map(str, part.columns.columns)))
    frame = pd.DataFrame(part.coords, columns=["x", "y"]).assign(slide=part.columns[slide] if slide else "")
    twice = frame.duplicated().to_numpy()
    bad = []
    for row in np.flatnonzero(twice)[:1]:
        first = int(np.flatnonzero((frame == frame.iloc[row]).all(axis=1))[0])
        x, y = part.coords[row]
        bad.append(f"{part.path}: rows {first + 1} and {row + 1} have the same coordinates ({x}, {y})")
    notes.reject(bad, "one patch twice", "remove one", settings, int(twice.sum()))
    return ~twice


def _match(table: pd.DataFrame, seen: Sequence[Seen], notes: Notes, settings: Settings) -> Matched:
    """The first rule that can be followed."""
    if all(one.ids is not None for one in seen) and _share_ids(table, seen):
        return _by_id(table, seen, notes, settings)
    slides = _by_slide_name(seen)
    known = _found(table["slide"].unique().tolist(), list(slides))
    if len(seen) == 1 and seen[0].slides is None and not known:
        return _by_order(table, seen[0])
    if not known:
        raise MediError(
            f"no slide of the table has features: slides {some(table['slide'].unique().tolist())}; files or slides of "
            f"features {some(list(slides))}; name the column of the slide (--slide)"
        )
    return _by_slide(table, slides, known, notes, settings)


def _share_ids(table: pd.DataFrame, seen: Sequence[Seen]) -> bool:
    return not set(table["sample_id"]).isdisjoint(name for one in seen for name in one.ids or ())


def _by_id(table: pd.DataFrame, seen: Sequence[Seen], notes: Notes, settings: Settings) -> Matched:
    places: dict[str, str] = {}
    for one in seen:
        for row, name in enumerate(one.ids or ()):
            if name in places:
                raise MediError(f"{one.name} row {row + 1}: sample_id {name!r} was there already; remove or rename one")
            if one.usable[row]:
                places[name] = one.place(row)
    known = table["sample_id"].isin(places.keys()).to_numpy()
    _lacking(table["sample_id"][~known].tolist(), notes, settings)
    ids = table["sample_id"][known].tolist()
    _passed_over(len(places) - len(ids), "rows of features that no row of the table names", notes)
    return Matched(np.flatnonzero(known), [places[name] for name in ids], ids, BY_ID)


def _by_order(table: pd.DataFrame, one: Seen) -> Matched:
    if len(one) != len(table):
        raise MediError(
            f"{one.name} has {len(one):,} rows of features without names, the table {len(table):,} rows: a row cannot "
            "be told from another; give a file per slide, or names (sample_id)"
        )
    rows = np.flatnonzero(one.usable)
    ids = table["sample_id"].iloc[rows].tolist()
    return Matched(rows, [one.place(int(row)) for row in rows], ids, "row by row, in order")


# --- by slide ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfSlide:
    """The rows of one slide in one file."""

    file: Seen
    rows: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def usable(self) -> Int64[np.ndarray, " m"]:
        """Those that were not left out."""
        return self.rows[self.file.usable[self.rows]]


def _by_slide_name(seen: Sequence[Seen]) -> dict[str, OfSlide]:
    """The rows of each slide: the file's name is the slide's unless a column says it."""
    found: dict[str, OfSlide] = {}
    for one in seen:
        names = np.array([Path(one.name).stem] * len(one) if one.slides is None else one.slides, dtype=object)
        for name in pd.unique(names) if len(one) else [Path(one.name).stem]:
            if name in found:
                raise MediError(f"slide {name!r} is in {found[name].file.name} and in {one.name}; remove one")
            found[str(name)] = OfSlide(one, np.flatnonzero(names == name))
    return found


def _found(slides: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """For each slide of the table the name among the features: alike, without the suffix of a scan, or up to a dot."""
    found: dict[str, str] = {}
    for shorten in (key_of, _without_scan, _up_to_dot):
        by_key: dict[str, list[str]] = {}
        for name in files:
            by_key.setdefault(shorten(name), []).append(name)
        for slide in slides:
            names = by_key.get(shorten(slide), [])
            if slide not in found and len(names) == 1:
                found[slide] = names[0]
    return found


def _without_scan(name: str) -> str:
    key = key_of(name)
    return next((key.removesuffix(end) for end in SCANS if key.endswith(end)), key)


def _up_to_dot(name: str) -> str:
    return key_of(name).partition(".")[0]


def _by_slide(
    table: pd.DataFrame, slides: Mapping[str, OfSlide], known: Mapping[str, str], notes: Notes, settings: Settings
) -> Matched:
    groups = {name: np.asarray(rows) for name, rows in table.groupby("slide", sort=False).indices.items()}
    _lacking([f"slide {name}" for name in groups if name not in known], notes, settings)
    unused = [name for name in slides if name not in known.values()]
    _passed_over(len(unused), f"slides with features that the table does not have ({some(unused)})", notes)
    empty = [slide for slide, file in known.items() if not len(slides[file].usable)]
    _passed_over(len(empty), f"slides without a usable row of features ({some(empty)})", notes)
    is_of_slides = len(groups) == len(table)
    names = coordinates_in(table)
    parts = [
        _expanded(table, int(groups[slide][0]), slides[file])
        if is_of_slides
        else _within(table, slide, groups[slide], slides[file], names)
        for slide, file in known.items()
    ]
    rows, places, ids = (np.concatenate([part[i] for part in parts]) for i in range(3))
    if not len(rows):
        raise MediError("no slide of the table has a row of features that can be used")
    patches = "a patch per row" if len(rows) > len(groups) or not is_of_slides else "a row per slide"
    return Matched(rows.astype(np.int64), places.tolist(), ids.tolist(), f"by slide, {patches}")


Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows of the table, places, ids


def _expanded(table: pd.DataFrame, row: int, found: OfSlide) -> Pieces:
    """The one row of a slide, as often as it has rows of features; once where it is the patch of a row already."""
    name, rows, coords = str(table["sample_id"].iloc[row]), found.usable, found.file.coords
    if coords is not None and (its := [name.endswith(f"/{x}_{y}") for x, y in coords[rows]]) and any(its):
        rows, ids = rows[its], [name]
    elif len(found) == 1 and coords is None:
        ids = [name] * len(rows)
    elif coords is None:
        ids = [f"{name}/{one}" for one in rows]
    else:
        ids = [f"{name}/{x}_{y}" for x, y in coords[rows]]
    return np.full(len(rows), row), _places(found.file, rows), np.array(ids, dtype=object)


def _within(
    table: pd.DataFrame, slide: str, rows: Int64[np.ndarray, " r"], found: OfSlide, names: tuple[str, str] | None
) -> Pieces:
    """The rows of a slide, by their coordinates or in their order."""
    if names is not None and found.file.coords is not None:
        order = _by_coordinates(table.iloc[rows], slide, found, names)
    elif len(rows) == len(found):
        order = found.rows
    else:
        raise MediError(
            f"slide {slide}: the table has {len(rows):,} rows, {found.file.name} has {len(found):,}; give coordinates "
            "in both (columns x and y), or as many rows"
        )
    kept = found.file.usable[order]
    ids = table["sample_id"].iloc[rows[kept]].to_numpy(dtype=object)
    return rows[kept], _places(found.file, order[kept]), ids


def _by_coordinates(
    patches: pd.DataFrame, slide: str, found: OfSlide, names: tuple[str, str]
) -> Int64[np.ndarray, " r"]:
    coords = found.file.coords
    assert coords is not None
    index = {(int(x), int(y)): int(row) for row, (x, y) in zip(found.rows, coords[found.rows])}
    wanted = [(int(x), int(y)) for x, y in whole_numbers(patches, names, f"slide {slide} of the table")]
    if lost := [place for place in wanted if place not in index]:
        raise MediError(
            f"slide {slide}: the table has a patch at {lost[0]} ({len(lost):,} of {len(wanted):,} are not there), "
            f"{found.file.name} with {len(found):,} rows has none; are the coordinates of one level?"
        )
    return np.array([index[place] for place in wanted], dtype=np.int64)


def _places(file: Seen, rows: Int64[np.ndarray, " n"]) -> np.ndarray:
    return np.array([file.place(int(row)) for row in rows], dtype=object)


def _lacking(names: Sequence[str], notes: Notes, settings: Settings) -> None:
    notes.reject(names, "has no features", "embed it", settings)


def _passed_over(count: int, what: str, notes: Notes) -> None:
    if count:
        notes.append(f"passed over, {what}: {count:,}")


def _unique(table: pd.DataFrame) -> None:
    if (twice := table["sample_id"].duplicated()).any():
        raise MediError(f"sample_id {table['sample_id'][twice].iloc[0]!r} occurs twice; name a column of ids (--id)")
