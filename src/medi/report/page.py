"""One self-contained HTML page from the result tables of a run folder; stages that have not run are said so."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.table import Cohort
from medi.errors import MediError
from medi.files import check_format, read_json, read_table, write_text
from medi.report import figures
from medi.report.parts import ARMS, DASH, Cell, Picture, Section, Table, facts, interval, known, number, share, table_of
from medi.report.sentences import summary

FORMAT_VERSION = 1
AUDIT_TABLES = {
    "association": "What each attribute tells about the class",
    "ceiling": "What the metadata alone would score, without a look at an image",
    "missingness": "What is not known, per class",
    "continuous": "Continuous attributes",
    "pairs": "How far attributes determine each other",
}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """What a run folder holds; a part that is not there yet is empty (tables, dicts) or None (sheet)."""

    results: dict[str, Any]
    audit: dict[str, Any]
    counts: pd.DataFrame
    certificate: dict[str, Any]
    training: pd.DataFrame
    fidelity: pd.DataFrame
    utility: pd.DataFrame
    sheet: Cohort | None

    @property
    def attribute(self) -> str:
        """The name of the attribute that is crossed with the class."""
        named = self.results.get("settings", {}).get("attribute")
        return str(named or next(name for name in (*self.held_columns, "site") if name != "class"))

    @property
    def held_columns(self) -> list[str]:
        """The columns whose combinations the hold-out chose from."""
        return [str(name) for name in self.certificate.get("columns", ["class", "site"])]

    @property
    def held_out(self) -> list[dict[str, str]]:
        """The combinations without a training patch: those chosen, and those that lost all patients to them."""
        found = [*self.certificate.get("held_out", []), *self.certificate.get("emptied", [])]
        return [cell if isinstance(cell, dict) else dict(zip(self.held_columns, map(str, cell))) for cell in found]

    @property
    def framed(self) -> set[tuple[str, str]]:
        """(class, level) of each held-out combination."""
        return {(cell.get("class", ""), cell.get(self.attribute, "")) for cell in self.held_out}

    @property
    def unseen(self) -> set[tuple[str, str]]:
        """(class, level) of each combination without a training patch: held out, or never there."""
        if self.fidelity.empty:
            return self.framed
        rows = self.fidelity[(self.fidelity["seen"] == "unseen") & (self.fidelity["scope"] == "combination")]
        return self.framed | set(zip(rows["class"], rows[self.attribute]))

    def overall(self, table: pd.DataFrame, metric: str) -> pd.DataFrame:
        """The rows of a metric that are not of one class or one level."""
        return table[(table["metric"] == metric) & (table["class"] == "") & (table[self.attribute] == "")]


@dataclass(frozen=True)
class Headline:
    """A number that stands out at the top."""

    name: str
    value: str
    beside: str


def build(run: Path) -> Path:
    """Write run/report.html from the tables in `run` alone and return its path.

    Raises MediError where `run` holds no result at all, or one of a newer format.
    """
    found = read(run)
    sections = [
        accuracy(found),
        samples(found),
        fidelity(found),
        audit(found),
        holdout(found),
        training(found),
        settings(found),
    ]
    return write_text(run / "report.html", render(found, sections))


def read(run: Path) -> Run:
    """Everything that the page shows, from the files of a run folder."""
    parts = ("results.json", "audit/audit.json", "holdout/certificate.json", "tables", "sheet/cohort.json")
    if not any((run / part).exists() for part in parts):
        raise MediError(f"{run}: no results of a study here (no results.json, no tables); run `medi run` first")
    results = _json(run / "results.json")
    if results:
        check_format(results.get("format_version"), FORMAT_VERSION, run / "results.json")
    return Run(
        results,
        audit=_json(run / "audit" / "audit.json"),
        counts=_table(run / "audit" / "counts.parquet"),
        certificate=_json(run / "holdout" / "certificate.json"),
        training=_table(run / "tables" / "training.parquet"),
        fidelity=_table(run / "tables" / "fidelity.parquet").rename(columns={"split": "seen"}),  # "" for classes
        utility=_table(run / "tables" / "utility.parquet"),
        sheet=Cohort.load(run / "sheet") if (run / "sheet" / "cohort.json").exists() else None,
    )


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _table(path: Path) -> pd.DataFrame:
    """A table with "" for unknown text, or an empty one where it has not been written yet."""
    if not path.exists():
        return pd.DataFrame()
    table = read_table(path)
    return table.fillna({name: "" for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])})


def render(run: Run, sections: Sequence[Section]) -> str:
    """The page of a study as HTML."""
    return fill(
        title=str(run.results.get("title") or "MeDi study"),
        asked=asked(run),
        cohort=cohort_line(run),
        sentences=summary(run.results, run.fidelity, run.utility, run.attribute) if run.results else [],
        sections=sections,
        headlines=headlines(run),
    )


def fill(
    title: str,
    asked: str,
    cohort: str,
    sentences: Sequence[str],
    sections: Sequence[Section],
    headlines: Sequence[Headline] = (),
) -> str:
    """A page as HTML; every name from metadata passes through the template's escaping (P11)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        title=title,
        asked=asked,
        cohort=cohort,
        headlines=headlines,
        sentences=sentences,
        sections=sections,
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def asked(run: Run) -> str:
    return (
        f"A classifier learns from some combinations of class and {run.attribute} and is tested on others, never seen. "
        f"Do images generated from class and {run.attribute} (MeDi) fill that hole better than images generated from "
        "the class alone (CLS), and as well as real ones would?"
    )


def cohort_line(run: Run) -> str:
    """'6,100 patches, 240 slides, 120 patients, 4 classes, 10 combinations held out, seed 0'."""
    size = run.audit.get("size", {})
    parts = [f"{number(size[unit])} {unit}" for unit in ("patches", "slides", "patients", "classes") if unit in size]
    parts.append(f"{len(run.held_out)} combinations held out" if run.held_out else "")
    parts.append(f"seed {run.results['seed']}" if "seed" in run.results else "")
    return ", ".join(filter(None, parts))


def headlines(run: Run) -> list[Headline]:
    """The three numbers that the study is about, all on unseen combinations."""
    accuracy, frechet = (run.results.get(key, {}).get("unseen", {}) for key in ("balanced_accuracy", "frechet"))
    if not run.results:
        return []
    two = {arm: f"{value:.2f}" if known(value) else DASH for arm, value in accuracy.items()}
    return [
        Headline(
            "Fréchet distance of MeDi’s images",
            number(frechet.get("medi")),
            f"CLS {number(frechet.get('cls'))} · real vs real {number(frechet.get('floor'))}",
        ),
        Headline(
            "Balanced accuracy with MeDi’s images",
            two.get("medi", DASH),
            f"real only {two.get('real', DASH)} · CLS {two.get('cls', DASH)} · oracle {two.get('oracle', DASH)}",
        ),
        Headline(
            "Gap to the oracle closed by MeDi", share(run.results.get("gap_closed")), "0 % = real only · 100 % = oracle"
        ),
    ]


def accuracy(run: Run) -> Section:
    """Balanced accuracy of every arm, on seen and on unseen combinations."""
    section = ("accuracy", "Does the classifier gain?")
    rows = run.overall(run.utility, "balanced_accuracy") if len(run.utility) else run.utility
    if rows.empty:
        return Section(*section, ["No classifier has been trained yet, so there is no accuracy to show."])
    classes = run.utility.loc[run.utility["class"] != "", "class"].nunique()
    picture = Picture(
        "Balanced accuracy by training set",
        figures.forest(rows, 1 / max(classes, 1)),
        _spoken(rows, "split", "Balanced accuracy"),
        "Dot: balanced accuracy on real test patches; line: its interval, which resamples slides or patients, not "
        "patches. Further right is better; the dotted line is chance.",
        table_of("All accuracies, recalls and differences", run.utility, open=False),
    )
    text = "The same classifier on the same frozen descriptors, trained on each set and tested on real patches only."
    return Section(*section, [text], blocks=[accuracy_table(rows), picture])


def accuracy_table(rows: pd.DataFrame) -> Table:
    """One row per arm: accuracy with interval and n of each test set, and n of training."""
    lines = []
    for arm in [name for name in ARMS if (rows["arm"] == name).any()]:
        line: dict[str, Any] = {"training set": ARMS[arm] if arm in ("real", "oracle") else f"real + {ARMS[arm]}"}
        for row in rows[rows["arm"] == arm].itertuples():
            line |= {"n train": row.n_train, str(row.split): _with_interval(row)}
            line |= {f"n patches, {row.split}": row.n_real, f"n slides, {row.split}": row.n_slides}
        lines.append(line)
    return table_of("Balanced accuracy on seen and unseen combinations, with intervals", pd.DataFrame(lines))


def _with_interval(row: Any) -> Cell:
    if not known(row.value):
        return Cell(f"{DASH} ({row.reason})", "", True)
    return Cell(f"{row.value:.3f}{interval(row.low, row.high, '{:.3f}'.format)}", str(row.value), True)


def samples(run: Run) -> Section:
    """Real, MeDi and CLS patches of each combination."""
    section = ("samples", "What do the images look like?")
    if run.sheet is None or not len(run.sheet):
        return Section(*section, ["No images have been sampled yet, so there is no grid to show."])
    table, attribute = run.sheet.table, run.attribute
    most = {attribute: figures.GRID_ROWS, "class": figures.GRID_CLASSES}
    cut = "".join(f" Only the first {n} by {name} are shown." for name, n in most.items() if table[name].nunique() > n)
    picture = Picture(
        f"Real, MeDi and CLS patches by {attribute} and class",
        figures.sample_grid(run.sheet, attribute, run.unseen),
        f"Grid of {run.sheet.images.size} pixel patches: {table[attribute].nunique()} rows, one per {attribute}; "
        f"{table['class'].nunique()} blocks, one per class; in each block real patches, then MeDi’s, then CLS’s. "
        f"{len(run.unseen)} combinations without a training patch are framed.",
        f"A row per {attribute}, a block per class. MeDi is given class and {attribute}, CLS the class alone: MeDi’s "
        "patches should look like the real ones of their own row. Framed: no model has seen a patch of it."
        f"{cut}",
        table_of("The patches of the grid", table, open=False),
    )
    return Section(*section, blocks=[picture])


def fidelity(run: Run) -> Section:
    """Fréchet distances per class and per combination, with their floors."""
    section = ("fidelity", "How close are the images to real ones?")
    if run.fidelity.empty:
        return Section(*section, ["No distances have been measured yet."])
    encoder = run.results.get("encoder", {})
    rows = run.fidelity[run.fidelity["metric"] == "frechet"]
    blocks = [
        _class_bars(run, rows[rows["scope"] == "class"]),
        _distance_maps(run, rows[rows["scope"] == "combination"]),
    ]
    text = (
        "Fréchet distance between real and generated images, lower is closer. The floor is the distance between two "
        "sets of real images at the same n: nothing can be expected to be closer."
    )
    name = f"Descriptor: {encoder.get('name')}, {encoder.get('dimension')} numbers." if encoder.get("name") else ""
    return Section(*section, [f"{text} {name}".strip()], blocks=[block for block in blocks if block])


def _class_bars(run: Run, rows: pd.DataFrame) -> Picture | None:
    if rows.empty:
        return None
    return Picture(
        "Distance per class",
        figures.class_bars(rows),
        _spoken(rows, "class", "Fréchet distance"),
        f"All images of a class together, mixed over {run.attribute} as the real ones are, for both models alike. "
        f"{_each_n(rows)}",
        table_of("Distances per class", run.fidelity[run.fidelity["scope"].str.startswith("class")], open=False),
    )


def _distance_maps(run: Run, rows: pd.DataFrame) -> Picture | None:
    if rows.empty:
        return None
    return Picture(
        f"Distance per class and {run.attribute}",
        figures.distance_maps(rows, run.attribute, run.unseen),
        _spoken(rows, "seen", "Mean Fréchet distance over combinations"),
        "Darker is farther from real; one logarithmic colour scale for all maps. Framed: without a training patch. "
        f"{_each_n(rows)}",
        table_of(
            "Distances and paired differences per combination",
            run.fidelity[run.fidelity["scope"].str.startswith("combination")],
            open=False,
        ),
    )


def _each_n(rows: pd.DataFrame) -> str:
    """'n = 150 real and 150 synthetic images each', or their ranges."""
    texts = []
    for column, what in (("n_real", "real"), ("n_synthetic", "synthetic")):
        counts = rows.loc[rows["arm"] != "floor", column].dropna()
        if len(counts):
            low, high = number(counts.min()), number(counts.max())
            texts.append(f"{low} {what}" if low == high else f"{low} to {high} {what}")
    return f"n = {' and '.join(texts)} images each." if texts else ""


def _spoken(rows: pd.DataFrame, by: str, what: str) -> str:
    """The figure in words: the value of every arm in every group."""
    groups = [f"{str(group) or 'all'}: {_arm_values(part)}" for group, part in rows.groupby(by)]
    return f"{what}. {'; '.join(groups)}."


def _arm_values(rows: pd.DataFrame) -> str:
    means = rows.groupby("arm", sort=False)["value"].mean()
    return ", ".join(f"{ARMS.get(str(arm), str(arm))} {number(value)}" for arm, value in means.items())


def audit(run: Run) -> Section:
    """How skewed the cohort is, and which attribute gives the class away."""
    section = ("audit", "How skewed is the cohort?")
    if not run.audit and run.counts.empty:
        return Section(*section, ["The cohort has not been audited yet."])
    blocks: list[Table | Picture] = [] if run.counts.empty else [_count_map(run)]
    for key, title in AUDIT_TABLES.items():
        if run.audit.get(key):
            blocks.append(table_of(title, pd.DataFrame(run.audit[key]), open=key in ("association", "ceiling")))
    alarms, notes = run.audit.get("alarms", []), run.audit.get("notes", [])
    return Section(*section, [*notes, *([] if alarms else ["The audit raised no alarm."])], alarms, blocks)


def _count_map(run: Run) -> Picture:
    counts = run.counts[(run.counts["by"] == "class") & (run.counts["attribute"] == run.attribute)]
    counts = counts.rename(columns={"group": "class", "patches": "n"})
    rows, columns = counts["level"].nunique(), counts["class"].nunique()
    total, most, empty = counts["n"].sum(), counts["n"].max(), rows * columns - (counts["n"] > 0).sum()
    held = [cell in run.framed for cell in zip(counts["class"], counts["level"])]
    before = ", shown as they were before" if counts.loc[held, "n"].any() else ""
    return Picture(
        f"Patches per class and {run.attribute}",
        figures.count_map(counts, run.attribute, run.framed),
        f"Heat map of {number(total)} patches: {rows} rows, one per {run.attribute}, and {columns} columns, one per "
        f"class. The fullest combination has {number(most)}; {len(run.held_out)} combinations are held out.",
        f"n = {number(total)} patches; {empty} of {rows * columns} combinations are empty. The colour ends at "
        f"{number(min(figures.COUNT_CAP, most))} patches. Framed: held out{before}.",
        table_of("Counts of patches, slides and patients", run.counts, open=False),
    )


def holdout(run: Run) -> Section:
    """The certificate: what was held out, how many patches each side has, and the hashes to check it by."""
    section = ("holdout", "What was held out?")
    if not run.certificate:
        return Section(*section, ["No combinations have been held out yet."])
    units = {"rows": "patches", "slides": "slides", "patients": "patients"}
    counts = pd.DataFrame({name: run.certificate.get(unit, {}) for unit, name in units.items()})
    rest = {k: v for k, v in run.certificate.items() if k not in (*units, "held_out", "emptied", "format_version")}
    blocks = [
        table_of("Patches, slides and patients of each split", counts.rename_axis("split").reset_index()),
        table_of(f"The {len(run.held_out)} held-out combinations", pd.DataFrame(run.held_out), open=False),
        facts("Certificate: rule, seed and hashes, from which anyone can check it again", rest, open=False),
    ]
    text = f"{len(run.held_out)} combinations of {' and '.join(run.held_columns)} have no patch in training"
    return Section(*section, [f"{text}; the figures frame them."], blocks=blocks)


def training(run: Run) -> Section:
    """Loss curves of both models."""
    section = ("training", "How were the models trained?")
    if run.training.empty:
        return Section(*section, ["No model has been trained yet."])
    ends = "; ".join(_end(str(model), rows) for model, rows in run.training.groupby("model", sort=False))
    picture = Picture(
        "Training curves",
        figures.training_curves(run.training),
        f"Loss over images seen. At the end {ends}.",
        f"Both models are trained alike. {ends}. The losses of CLS and MeDi are no measure of their images’ quality.",
        table_of("Loss and speed along training", run.training, open=False),
    )
    return Section(*section, blocks=[picture])


def _end(model: str, rows: pd.DataFrame) -> str:
    last = rows.iloc[-1]
    speed = f"{number(last['images_per_second'])} images/s"
    return f"{ARMS.get(model, model)}: {number(last['images'])} images seen, loss {number(last['loss'])}, {speed}"


def settings(run: Run) -> Section:
    """Settings, time, versions, seeds: what it takes to run this again."""
    section = ("settings", "How can this be run again?")
    if not run.results:
        return Section(*section, ["The study is not finished: settings, times and versions follow with results.json."])
    seconds = run.results.get("seconds", {})
    titles = {
        "settings": "Settings of the study",
        "versions": "Versions",
        "machine": "Machine",
        "encoder": "Descriptor",
    }
    identity = {
        key: run.results.get(key) for key in ("seed", "phantom", "format_version") if known(run.results.get(key))
    }
    blocks = [facts("Seed and hashes", identity)]
    if seconds:
        total = sum(value for value in seconds.values() if known(value))
        blocks.append(facts("Seconds per stage", {**seconds, "together": total}))
    blocks += [
        facts(title, run.results[key], key != "settings") for key, title in titles.items() if run.results.get(key)
    ]
    return Section(*section, blocks=blocks)
