"""Do the images show what was asked for? Probes trained on real images look at synthetic ones."""

import pandas as pd

from medi import figures
from medi.figures import Axis
from medi.figures.names import in_order, number, ordered, probed_name
from medi.report.parts import Picture, Section, table_of
from medi.report.run import Run, pick
from medi.report.sections.words import each_n, split_axes, spoken

KEPT = {
    "class_kept": Axis("class_kept", "class kept", "share of pairs"),
    "detectability": Axis("detectability", "told from real", "AUROC", 0.5, "cannot be told"),
}


def control(run: Run) -> Section:
    section = ("control", "Do the images show what was asked for?")
    if run.control.empty:
        return Section(*section, ["No probe has looked at the images yet, so nothing is known of their obedience."])
    rows = run.main(run.control)
    text = (
        "Probes learn class and attributes from real images and then name them in synthetic ones. Obedience is the "
        "share in which the probe sees what was asked for; “real” is the same probe on real test images, the most that "
        "can be expected."
    )
    blocks = [_obedience(rows), *_confusions(run.confusion), _kept(run, rows)]
    return Section(
        *section, [text], blocks=[*filter(None, blocks), table_of("All figures of control", rows, open=False)]
    )


def _obedience(rows: pd.DataFrame) -> Picture | None:
    shown = pick(rows, metric="as_asked", scope="all")
    if shown.empty:
        return None
    shown = _sorted(shown.assign(axis=shown["split"], group=shown["attribute"]))
    return Picture(
        "Obedience per arm",
        figures.forest(shown, split_axes(shown, "share recognised as requested"), "obedience", probed_name),
        " ".join(_obedience_said(str(name), part) for name, part in shown.groupby("attribute", sort=False)),
        f"A block per attribute. Dot: share; line: its interval. {each_n(shown[shown['arm'] != 'real'])}",
        table_of("Obedience", pick(rows, metric="as_asked"), open=False),
    )


def _obedience_said(attribute: str, rows: pd.DataFrame) -> str:
    return spoken(rows, "split", f"Obedience to {attribute}", probed_name)


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    """Class first, then the attributes; in each the arms as everywhere."""
    attributes = ["class", *(name for name in ordered(rows["attribute"]) if name != "class")]
    parts = [rows[(rows["attribute"] == a) & (rows["arm"] == arm)] for a in attributes for arm in in_order(rows["arm"])]
    return pd.concat(parts)


def _confusions(confusion: pd.DataFrame) -> list[Picture]:
    """For each attribute what was requested against what the probe recognised."""
    if confusion.empty:
        return []
    names = ["class", *(name for name in ordered(confusion["attribute"]) if name != "class")]
    return [
        _confusion(confusion[confusion["attribute"] == name], name)
        for name in names
        if name in set(confusion["attribute"])
    ]


def _confusion(rows: pd.DataFrame, attribute: str) -> Picture:
    right = rows[rows["requested"] == rows["recognised"]].groupby("arm")["share"].mean()
    said = ", ".join(f"{probed_name(arm)} {number(right.get(arm))}" for arm in in_order(rows["arm"]))
    levels = max(rows["requested"].nunique(), rows["recognised"].nunique())
    cut = f" Only the first {figures.MAP_ROWS} of {levels} levels." if levels > figures.MAP_ROWS else ""
    return Picture(
        f"What the probe recognises: {attribute}",
        figures.confusion_maps(rows, attribute),
        f"Confusion tables of {attribute}, {levels} levels. Mean share recognised as requested: {said}.",
        f"Rows: the {attribute} that was asked for; columns: what the probe sees. On the diagonal both agree.{cut}",
        table_of(f"Confusion of {attribute}", rows, open=False),
    )


def _kept(run: Run, rows: pd.DataFrame) -> Picture | None:
    """Whether the class survives another site, and whether synthetic and real images can be told apart."""
    shown = pick(rows, metric=list(KEPT), scope="all", split="")
    if shown.empty:
        return None
    axes = [axis for key, axis in KEPT.items() if (shown["metric"] == key).any()]
    order = {arm: i for i, arm in enumerate(in_order(shown["arm"]))}
    shown = shown.assign(axis=shown["metric"], group="").sort_values(
        "arm", key=lambda arms: arms.map(order), kind="stable"
    )
    return Picture(
        f"Class under another {run.attribute}, and real against synthetic",
        figures.forest(shown, axes, "kept"),
        spoken(shown, "metric", "Class kept and detectability"),
        f"Class kept: same noise, only the {run.attribute} changed, and the probe sees the same class. Told from real: "
        "AUROC of a cross-validated classifier of real against synthetic; 0.5 means that they cannot be told apart.",
        table_of("Class kept and detectability", pick(rows, metric=list(KEPT)), open=False),
    )
