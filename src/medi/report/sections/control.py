"""Do the images show what was asked for? Probes trained on real images look at synthetic ones."""

import pandas as pd

from medi import figures
from medi.core.tables import CROSSED, of_main_probe
from medi.figures import Axis
from medi.figures.names import in_order, number, ordered, probed_name
from medi.report.parts import Picture, Section, Table, table_of
from medi.report.run import Run, pick
from medi.report.sections.by_encoder import asked_by_encoder
from medi.report.sections.words import each_n, split_axes, spoken

AS_ASKED = "as_asked"
KEPT = {
    "class_kept": Axis("class_kept", "class kept", "share of pairs"),
    "detectability": Axis("detectability", "told from real", "AUROC", 0.5, "cannot be told"),
}


def control(run: Run) -> Section:
    section = ("control", "Do the images show what was asked for?")
    if run.control.empty:
        return Section(*section, ["No probe has looked at the images yet."])
    rows = run.main(run.control)
    text = [
        "Probes learn class and attributes from real images and then name them in synthetic ones. “As asked” is the "
        "share of images in which the probe sees what was asked for.",
        "“Real” is the same probe on real test images: no model can be expected to do better.",
    ]
    if (rows["probe"] == CROSSED).any():
        text.append(
            "These probes learned from crossed real patches: every combination of class and attribute is there. Probes "
            "of the training patches are biased as these are. Their figures stand in the last table alone."
        )
    blocks: list[Picture | Table | None] = [
        _as_asked(rows),
        asked_by_encoder(run),
        *_confusions(of_main_probe(run.confusion)),
        _kept(run, rows),
        table_of("All figures of the probes", run.control, open=False),
    ]
    return Section(*section, text, blocks=[block for block in blocks if block])


def _as_asked(rows: pd.DataFrame) -> Picture | None:
    shown = pick(rows, metric=AS_ASKED, scope="all")
    if shown.empty:
        return None
    shown = _sorted(shown.assign(axis=shown["split"], group=shown["attribute"]))
    return Picture(
        "Images that show what was asked for",
        figures.forest(shown, split_axes(shown, "share as asked"), AS_ASKED, probed_name),
        " ".join(_said(str(name), part) for name, part in shown.groupby("attribute", sort=False)),
        "Each block is an attribute. A dot is the share of images as asked, a line its interval. "
        f"{each_n(shown[shown['arm'] != 'real'])}",
        table_of("Shares as asked", pick(rows, metric=AS_ASKED), open=False),
    )


def _said(attribute: str, rows: pd.DataFrame) -> str:
    return spoken(rows, "split", f"{attribute.capitalize()} as asked", probed_name)


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    """Class first, then the attributes; in each the arms as everywhere."""
    attributes = ["class", *(name for name in ordered(rows["attribute"]) if name != "class")]
    parts = [rows[(rows["attribute"] == a) & (rows["arm"] == arm)] for a in attributes for arm in in_order(rows["arm"])]
    return pd.concat(parts)


def _confusions(confusion: pd.DataFrame) -> list[Picture]:
    """For each attribute what was requested against what the probe recognised."""
    if confusion.empty:
        return []
    found = set(confusion["attribute"])
    names = ["class", *(name for name in ordered(found) if name != "class")]
    return [_confusion(confusion[confusion["attribute"] == name], name) for name in names if name in found]


def _confusion(rows: pd.DataFrame, attribute: str) -> Picture:
    right = rows[rows["requested"] == rows["recognised"]].groupby("arm")["share"].mean()
    said = ", ".join(f"{probed_name(arm)} {number(right.get(arm))}" for arm in in_order(rows["arm"]))
    levels = max(rows["requested"].nunique(), rows["recognised"].nunique())
    cut = f" The first {figures.MAP_ROWS} of {levels} levels are shown." if levels > figures.MAP_ROWS else ""
    return Picture(
        f"What the probe recognises: {attribute}",
        figures.confusion_maps(rows, attribute),
        f"Confusion tables of {attribute}, {levels} levels. Mean share as asked: {said}.",
        f"Each row is the {attribute} that was asked for, each column what the probe sees. On the diagonal both "
        f"agree.{cut}",
        table_of(f"Confusion of {attribute}", rows, open=False),
    )


def _kept(run: Run, rows: pd.DataFrame) -> Picture | None:
    """Whether the class survives another site, and whether synthetic and real images can be told apart."""
    shown = pick(rows, metric=list(KEPT), scope="all", split="")
    if shown.empty:
        return None
    axes = [axis for key, axis in KEPT.items() if (shown["metric"] == key).any()]
    order = in_order(shown["arm"])
    shown = shown.assign(axis=shown["metric"], group="").sort_values(
        "arm", key=lambda arms: arms.map(order.index), kind="stable"
    )
    return Picture(
        f"Class at another {run.attribute}, and real against synthetic",
        figures.forest(shown, axes, "kept"),
        spoken(shown, "metric", "Class kept and detectability"),
        f"Class kept: two images share their noise and differ in the {run.attribute}, and the probe sees the same "
        "class in both. Told from real: AUROC of a cross-validated classifier of real against synthetic images. At 0.5 "
        "they cannot be told apart.",
        table_of("Class kept and detectability", pick(rows, metric=list(KEPT)), open=False),
    )
