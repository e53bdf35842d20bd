"""Does a classifier gain? Every arm with its interval, paired differences, curves, levels, groups, all measures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from medi import figures
from medi.core.claims import PRIMARY
from medi.core.tables import DIFFERENCE
from medi.figures import Axis
from medi.figures.names import arm_name, in_order, metric_name, split_title, splits_of
from medi.report.heads import heads_sentences, heads_table
from medi.report.parts import Picture, Section, Table, entry, label, table_of
from medi.report.remedies import EVERY, called
from medi.report.run import Run, pick
from medi.report.sections.by_encoder import recall_by_encoder
from medi.report.sections.robustness import robustness_tables
from medi.report.sections.words import left_out, measures, split_axes, spoken, with_interval

MAIN = "balanced_accuracy"  # within levels, and over all where version 0.1 measured it
MAIN_ARMS = ("real", "cls", "medi", "oracle")
PANELS = {
    "inductive": "Trained on training data alone",
    "transductive": "Has also seen unlabelled test images",
}
GAPS = {"equalised_odds_gap": "equalised-odds gap", "demographic_parity_gap": "demographic-parity gap"}
VARIED = {
    "n_train": "training patches",
    "ratio": "synthetic images per real one",
    "sites": "random training sites",
    "real_per_class": "real images a class at most",
}
OTHERS = (
    *("mean_recall", "balanced_accuracy", "worst_five", "worst_group", "auroc", "mcc", "calibration_error"),
    "site_readability",
)


def utility(run: Run) -> Section:
    section = ("accuracy", "Does the classifier gain?")
    if run.utility.empty:
        return Section(*section, ["No classifier has been trained yet, so there is no accuracy to show."])
    text = "The same head on the same frozen features is trained on each training set and tested on real patches only."
    blocks = [_titled(block, task) for task in run.tasks for block in _blocks(run.of_task(task))]
    whole = pick(run.utility, metric=PRIMARY, scope="all", split=EVERY)
    by_head = heads_sentences(run.of_task(run.tasks[0]).heads)
    return Section(*section, [text, *left_out(whole), *by_head], blocks=blocks)


def _titled(block: Table | Picture, task: str) -> Table | Picture:
    return replace(block, title=f"{block.title}: {task}") if task not in ("", "all") else block


def _blocks(run: Run) -> list[Table | Picture]:
    """Everything about one task; nothing where it has no accuracy."""
    rows = pick(run.utility, metric=primary(run), scope="all")
    if rows.empty:
        return []
    blocks = [
        accuracy_table(run, rows),
        _forest(run, rows),
        recall_by_encoder(run),
        _differences(run),
        heads_table(run.heads),
        *_curves(run),
        *_levels(run),
        _recalls(run),
        _gaps(run),
        *_measures(run),
        *robustness_tables(run),
        table_of("All figures of all classifiers", run.utility, open=False),
    ]
    return [block for block in blocks if block]


def primary(run: Run) -> str:
    """The measure that decides: mean recall over combinations, or balanced accuracy in a run of version 0.1."""
    return MAIN if pick(run.utility, metric=PRIMARY).empty else PRIMARY


def panel_of(rows: pd.DataFrame) -> pd.Series:
    """inductive, or transductive for arms that have seen unlabelled test images."""
    return rows["panel"].replace("", "inductive") if "panel" in rows else pd.Series("inductive", rows.index)


def ranked(rows: pd.DataFrame) -> list[str]:
    """The arms by their values on the first split that is shown, from the highest."""
    first = rows[rows["split"] == splits_of(rows["split"])[0]]
    values = first.groupby("arm")["value"].mean()
    arms = in_order(rows["arm"])
    return sorted(arms, key=lambda arm: -values.get(arm, float("nan")) if pd.notna(values.get(arm)) else float("inf"))


def _by_rank(rows: pd.DataFrame) -> pd.DataFrame:
    order = ranked(rows)
    return rows.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")


def accuracy_table(run: Run, rows: pd.DataFrame) -> Table:
    """One row per arm: the main measure with interval and n of each test set, and n of training; chance is the last."""
    lines: list[dict[str, Any]] = []
    several = panel_of(rows).nunique() > 1
    for arm in ranked(rows):
        line: dict[str, Any] = {"training set": called(arm)}
        own = rows[rows["arm"] == arm].assign(panel=panel_of).set_index("split", drop=False)
        for row in own.loc[splits_of(own["split"])].itertuples():
            line |= {"n train": row.n_train, split_title(str(row.split)): with_interval(row)}
            line |= {f"n patches, {row.split}": row.n_real, f"n slides, {row.split}": row.n_slides}
            line |= {"panel": row.panel} if several else {}
        lines.append(line)
    lines.append(
        {"training set": "chance"} | {split_title(name): entry(run.chances[name]) for name in set(rows["split"])}
    )
    frame = pd.DataFrame(lines).astype(object)
    title = f"{_capital(metric_name(primary(run)))}, with intervals"
    return table_of(title, frame.where(frame.notna(), ""))


def _forest(run: Run, rows: pd.DataFrame) -> Picture:
    """All arms; those that saw test images stand apart."""
    panels = panel_of(rows)
    several = panels.nunique() > 1
    shown = [
        _by_rank(rows[panels == panel]).assign(group=PANELS.get(panel, panel) if several else "")
        for panel in sorted(set(panels))
    ]
    name = metric_name(primary(run))
    axes = split_axes(rows, name, run.chances, "chance")
    apart = " Arms that have also seen unlabelled test images stand in a block of their own." if several else ""
    return Picture(
        f"{_capital(name)} by training set",
        figures.forest(pd.concat(shown).assign(axis=lambda table: table["split"]), axes, "forest", called),
        spoken(rows, "split", _capital(name)),
        f"A dot is the {name} on real test patches. A line is its interval, which resamples slides or "
        f"patients, not patches. Further right is better; the dotted line is chance.{apart}",
        table_of(_capital(name), rows, open=False),
    )


def _differences(run: Run) -> Picture | None:
    """MeDi against each other arm, paired: what the intervals of single arms cannot tell."""
    name = primary(run)
    rows = pick(run.utility, metric=f"{name}{DIFFERENCE}", scope="all", arm="medi")
    if rows.empty:
        return None
    shown = rows.assign(arm=rows["against"], axis=rows["split"], group="")
    order = list(reversed(ranked(shown)))
    shown = shown.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")
    axes = split_axes(rows, f"{metric_name(name)}, MeDi minus this arm", 0.0)
    adjusted = " The data hold p-values, adjusted for the number of arms." if "p_adjusted" in rows else ""
    return Picture(
        "MeDi against each other arm, paired",
        figures.forest(shown, axes, "differences", _less),
        spoken(shown, "split", f"{_capital(metric_name(name))} of MeDi minus that of another arm"),
        "Right of the dotted line, MeDi’s images do better than the arm that is named; left of it, they do worse. An "
        f"interval that crosses the line leaves the question open. Both arms meet the same resampled slides.{adjusted}",
        table_of("Paired differences", rows, open=False),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _less(arm: str) -> str:
    return f"MeDi − {arm_name(arm)}"


def _curves(run: Run) -> list[Picture]:
    """Learning curves and sweeps: one figure per thing that was varied."""
    if run.curves.empty:
        return []
    names = list(dict.fromkeys(run.curves["x_name"]))
    return [_curve(run, run.curves[run.curves["x_name"] == name], str(name)) for name in names]


def _curve(run: Run, rows: pd.DataFrame, x_name: str) -> Picture:
    metric = MAIN if (rows["metric"] == MAIN).any() else str(rows["metric"].iloc[0])
    shown, varied = rows[rows["metric"] == metric], VARIED.get(x_name, label(x_name))
    seeds = shown["seed"].nunique()
    band = f"The band spans {seeds} seeds" if seeds > 1 else "The band is the interval"
    ends = shown[shown["x"] == shown["x"].max()]
    return Picture(
        f"{metric_name(metric).capitalize()} over {varied}",
        figures.curves(shown, varied, metric_name(metric), run.chance if metric == MAIN else None),
        spoken(ends, "split", f"At {shown['x'].max():g} {varied}, {metric_name(metric)}"),
        f"{band}; the line is the mean.{' The dotted line is chance.' if metric == MAIN else ''}",
        table_of(f"Results over {varied}", rows, open=False),
    )


def _levels(run: Run) -> list[Picture]:
    """How the main arms do at each level of each attribute."""
    rows = pick(run.utility, metric=MAIN, arm=MAIN_ARMS)
    scopes = [name for name in run.crossed if name in rows and (rows["scope"] == name).any()]
    return [_level(run, rows[rows["scope"] == name], name) for name in scopes]


def _level(run: Run, rows: pd.DataFrame, attribute: str) -> Picture:
    arms, undefined = in_order(rows["arm"]), int(rows["value"].isna().sum())
    axes = split_axes(rows, "balanced accuracy", run.chances, "chance")
    dashes = f" {undefined} of {len(rows)} are undefined, mostly because they lack a second class." if undefined else ""
    return Picture(
        f"Balanced accuracy per {attribute}",
        figures.panels(rows.assign(axis=rows["split"]), attribute, axes, arms),
        spoken(rows, attribute, f"Balanced accuracy per {attribute}, mean of the splits"),
        f"Each row is a {attribute}, each dot a training set.{dashes}",
        table_of(f"Balanced accuracy per {attribute}", rows, open=False),
    )


def _recalls(run: Run) -> Picture | None:
    """Which combinations are recognised, in each arm."""
    rows = pick(run.utility, metric="recall", scope="combination", arm=MAIN_ARMS)
    if rows.empty or run.attribute not in rows:
        return None
    return Picture(
        f"Recall per class and {run.attribute}",
        figures.recall_maps(rows, run.attribute, run.unseen),
        spoken(rows, "split", "Mean recall over combinations"),
        "The share of real test patches of a combination whose class is recognised; darker is more. Frames mark "
        "combinations without a real training patch.",
        table_of("Recall per combination", rows, open=False),
    )


def _gaps(run: Run) -> Picture | None:
    """How differently the levels of a column are treated."""
    rows = pick(run.utility, metric=list(GAPS))
    if rows.empty:
        return None
    split = "unseen" if (rows["split"] == "unseen").any() else splits_of(rows["split"])[0]
    shown = rows[rows["split"] == split]
    axes = [Axis(key, text, "", 0.0) for key, text in GAPS.items() if (shown["metric"] == key).any()]
    order = in_order(shown["arm"])
    shown = shown.assign(axis=shown["metric"], group="between levels of " + shown["scope"])
    shown = shown.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")
    return Picture(
        f"Gaps between groups, {split_title(split)}",
        figures.forest(shown, axes, "gaps", called),
        spoken(shown, "metric", "Gaps"),
        "Further left is fairer: 0 is no difference. Equalised odds compare how often a class is recognised, and how "
        "often it is given wrongly. Demographic parity compares how often it is given at all. Each gap is the largest "
        "difference between two groups.",
        table_of("Gaps of every split", rows, open=False),
    )


def _measures(run: Run) -> list[Table]:
    """Every other measure, a table per split: arms by measures."""
    rows = pick(run.utility, metric=OTHERS, scope="all")
    if rows.empty:
        return []
    names = [name for name in OTHERS if (rows["metric"] == name).any()]
    return [_measure_table(rows[rows["split"] == split], split, names) for split in splits_of(rows["split"])]


def _measure_table(rows: pd.DataFrame, split: str, names: Sequence[str]) -> Table:
    return table_of(f"Other measures, {split_title(split)}", measures(rows, names), open=split == "unseen")
