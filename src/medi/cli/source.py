"""SOURCE and its reader options, the same for every verb that reads a cohort, declared once."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medi.cli.options import one_of
from medi.cli.terminal import say, warn
from medi.core.errors import MediError
from medi.core.lists import split_commas

if TYPE_CHECKING:
    import pandas as pd

    from medi.cohort.table import Cohort

PANEL = "How SOURCE is read"
KINDS = ("auto", "tcga_ut", "webdataset", "wilds", "pathorob", "table", "folder", "features")
COMMAS = ("attributes", "continuous", "classes")  # options that take a list between commas


def _option(name: str, help: str, metavar: str = "COLUMN", known: Sequence[str] = ()) -> Any:
    complete = one_of(*known) if known else None
    return typer.Option(
        f"--{name}", help=help, metavar=metavar, show_default=False, rich_help_panel=PANEL, autocompletion=complete
    )


OPTIONS: Mapping[str, Any] = {
    "kind": Annotated[
        str, _option("kind", "tcga_ut, webdataset, wilds, pathorob, table, folder, features or auto.", "KIND", KINDS)
    ],
    "attributes": Annotated[
        list[str] | None, _option("attributes", "What to condition on: a,b or repeated; NEW=OLD renames.")
    ],
    "continuous": Annotated[list[str] | None, _option("continuous", "Those of the attributes that are numbers.")],
    "label": Annotated[str | None, _option("label", "The class (webdataset: a field of the JSON).")],
    "patient": Annotated[str | None, _option("patient", "The patient; '' for none.")],
    "slide": Annotated[str | None, _option("slide", "The slide; '' for none.")],
    "id": Annotated[str | None, _option("id", "A name for each row; by default the image's.")],
    "image": Annotated[str | None, _option("image", "Image path, or a template '{slide}/{patch}.png'; '' for none.")],
    "root": Annotated[Path | None, _option("root", "Folder that image paths are relative to.", "FOLDER")],
    "sheet": Annotated[
        str | None, _option("sheet", "Sheet of a spreadsheet (the first), or table of a database.", "NAME")
    ],
    "query": Annotated[str | None, _option("query", "SQL that a SQLite or DuckDB file answers.", "SQL")],
    "encoding": Annotated[
        str | None, _option("encoding", "Of a text table: latin-1, cp1252 ...", "NAME", ("latin-1", "cp1252"))
    ],
    "features": Annotated[
        Path | None, _option("features", "File or folder of features, in place of images (.h5, .npy, .pt ...).", "PATH")
    ],
    "pattern": Annotated[str | None, _option("pattern", "folder: regular expression with named groups.", "REGEX")],
    "level": Annotated[str | None, _option("level", "tcga_ut: 0 to 5, or all.", "LEVEL")],
    "shards": Annotated[str | None, _option("shards", "webdataset: which tars of the folder.", "GLOB")],
    "classes": Annotated[
        list[str] | None, _option("classes", "Keep only these: a,b or repeated; '\"a, b\",c' quotes a comma.", "CLASS")
    ],
    "clinical": Annotated[Path | None, _option("clinical", "GDC clinical table: race, gender, age.", "TABLE")],
    "sites": Annotated[Path | None, _option("sites", "GDC site code table: hospitals.", "TABLE")],
    "merge_aliases": Annotated[
        bool | None,
        typer.Option("--merge-aliases", help="Other names of one hospital are one level.", rich_help_panel=PANEL),
    ],
    "missing": Annotated[
        list[str] | None, _option("missing", "A spelling of 'not known', everywhere or COLUMN=TEXT.", "TEXT")
    ],
    "group_rare": Annotated[
        list[str] | None, _option("group-rare", "Levels of fewer than N patients become 'other'.", "COLUMN=N")
    ],
    "mpp": Annotated[float | None, _option("mpp", "Micrometres per pixel of the images.", "NUMBER")],
    "on_error": Annotated[
        str, _option("on-error", "Bad rows or images: skip (and list them) or fail.", "skip|fail", ("skip", "fail"))
    ],
}
DEFAULTS = {"kind": "auto", "on_error": "fail"}


@dataclass(frozen=True)
class Source:
    """What the user named, and how to read it: `options` are those of medi.cohort.readers.read."""

    path: Path
    kind: str
    on_error: "Literal['skip', 'fail']"
    options: Mapping[str, Any]

    def read(self, with_notes: bool = False) -> "Cohort":
        """A cohort folder as it is, anything else through the readers; what was guessed is printed.

        with_notes: print also what was guessed when a cohort folder was written.
        """
        from medi.cohort.table import Cohort

        if not self.path.exists():
            raise MediError(f"{self.path}: no such file or folder")
        if (self.path / "run.json").exists():
            inside, holdout = self.path / "cohort", self.path / "holdout"
            raise MediError(f"{self.path}: is a run; name its cohort, {inside}, whose hold-out lies in {holdout}")
        if not (self.path / "cohort.json").exists():
            return self._through_reader()
        others = [name for name in self.options if name != "features"]
        if others or self.kind != DEFAULTS["kind"]:
            named = ", ".join("--" + name.replace("_", "-") for name in others) or "--kind"
            raise MediError(f"{self.path} is a cohort already, {named} would change it; read its source again instead")
        cohort = Cohort.load(self.path)
        if "features" in self.options:
            from medi.cohort.readers import with_features

            cohort = with_features(cohort, self.options["features"], on_error=self.on_error)
        if with_notes or "features" in self.options:
            show_notes(cohort)
        return cohort

    def _through_reader(self) -> "Cohort":
        from medi.cohort import readers

        cohort = readers.read(self.path, self.kind, on_error=self.on_error, **self.options)
        show_notes(cohort)
        root = cohort.info["root"] and str(Path(cohort.info["root"]).resolve())
        return replace(cohort, info={**cohort.info, "root": root})

    def check_out(self, out: Path) -> None:
        """A packed cohort is never overwritten by another one's table."""
        from medi.cohort.pixels import same_pixels

        if (out / "pixels.npy").exists() and not self._is(out) and not same_pixels(self.path, out):
            raise MediError(f"{out} holds a packed cohort that is not {self.path}; choose another folder for --out")

    def check_cohort(self, cohort: "Cohort", out: Path) -> None:
        """A folder that holds another cohort is refused; the same one may get a split, or another, but not lose it."""
        from medi.cohort.holdout import has_split
        from medi.cohort.table import Cohort

        if self._is(out) or not (out / "cohort.json").exists():
            return
        found = Cohort.load(out)
        if has_split(found.table) and not has_split(cohort.table):
            raise MediError(f"{out}: holds a cohort with a split, which would be lost; choose another folder for --out")
        old = found.table.drop(columns="split", errors="ignore")
        if set(old.columns) - set(cohort.table.columns) or not _equal(old, cohort.table[list(old.columns)]):
            raise MediError(
                f"{out}: holds another cohort: {len(old):,} patches, {len(old.columns)} columns, now "
                f"{len(cohort):,} patches, {len(cohort.table.columns)} columns; choose another --out, or delete it"
            )

    def _is(self, out: Path) -> bool:
        return out.resolve() == self.path.resolve()


def _equal(one: "pd.DataFrame", other: "pd.DataFrame") -> bool:
    return one.astype("str").to_csv(index=False) == other.astype("str").to_csv(index=False)


def show_notes(cohort: "Cohort", guesses: bool = True) -> None:
    """How a cohort was read and what was guessed; in red what must not be passed over, such as unknown patients."""
    if guesses and "reader" in cohort.info:
        say(f"read as {cohort.info['reader']}: {len(cohort):,} rows")
    for note in cohort.notes if guesses else ():
        say(f"  {note}")
    for warning in cohort.warnings:
        warn(warning)


def training_cohort(folder: Path, verb: str, size: int | str = "PX") -> "Cohort":
    """The packed cohort in a folder, for a verb that learns its training patches; MediError where it has none."""
    from medi.cohort.table import Cohort

    if not (folder / "cohort.json").exists():
        raise MediError(f"{folder}: no cohort folder; {written_by('pack', folder, f'--size {size}')}")
    cohort = Cohort.load(folder)
    if cohort.has_features and cohort.pixels is None:
        raise MediError(f"{folder}: {cohort.no_images(verb)}")
    if cohort.pixels is None:
        raise MediError(f"{folder}: not packed; `medi pack {folder} --size {size} --out packed` decodes its images")
    if "split" not in cohort.table or not (cohort.table["split"] == "train").any():
        raise MediError(f"{folder}: no patch is for training; `medi holdout {folder} --out split` gives it a split")
    return cohort


def written_by(verb: str, folder: Path, *options: str) -> str:
    """The verb that writes a cohort folder: of what lies there, or of a source where nothing does."""
    source, out = (folder, f"my-{verb}") if folder.exists() else ("SOURCE", folder)
    return f"`{' '.join(['medi', verb, str(source), *options, '--out', str(out)])}` writes one"


def with_source(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb whose first parameter is a Source the argument SOURCE and the reader options instead."""

    def command(**given: Any) -> None:
        read = {name: given.pop(name) for name in OPTIONS}
        verb(_source(given.pop("source"), read), **given)

    own = list(inspect.signature(verb).parameters.values())[1:]
    path = inspect.Parameter("source", inspect.Parameter.KEYWORD_ONLY, annotation=SOURCE)
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name), annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]
    parameters = [path, *own, *added]
    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


SOURCE = Annotated[Path, typer.Argument(metavar="SOURCE", help="A cohort folder, or a table, tar or folder of images.")]


def _source(path: Path, given: dict[str, Any]) -> Source:
    kind, on_error = given.pop("kind"), given.pop("on_error")
    if on_error not in ("skip", "fail"):
        raise MediError(f"--on-error {on_error!r}: expected skip or fail")
    options = {name: value for name, value in given.items() if value is not None}
    options |= {name: split_commas(options[name]) for name in COMMAS if name in options}
    if "missing" in options:
        options["missing"] = _missing(options["missing"])
    if "group_rare" in options:
        options["group_rare"] = dict(map(_minimum, options["group_rare"]))
    return Source(path, kind, on_error, options)


def _missing(given: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """["NA", ...] for all columns, or {column: [...]} from COLUMN=TEXT."""
    pairs = [text.partition("=") for text in given]
    if not any(mark for _, mark, _ in pairs):
        return list(given)
    if not all(mark for _, mark, _ in pairs):
        raise MediError("--missing takes either TEXT for all columns or COLUMN=TEXT throughout, not both")
    columns = dict.fromkeys(column for column, _, _ in pairs)
    return {name: [text for column, _, text in pairs if column == name] for name in columns}


def _minimum(text: str) -> tuple[str, int]:
    column, _, number = text.rpartition("=")
    if not column or not number.isdecimal():
        raise MediError(f"--group-rare {text!r}: expected COLUMN=N, such as hospital=5")
    return column, int(number)
