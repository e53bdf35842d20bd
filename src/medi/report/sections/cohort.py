"""How skewed the cohort is, which attribute gives the class away, and what was held out of training."""

import pandas as pd

from medi import figures
from medi.figures.names import number
from medi.report.parts import Picture, Section, Table, facts, table_of
from medi.report.run import Run

AUDIT_TITLES = {
    "association": "What each attribute tells about the class",
    "ceiling": "What the metadata alone would score, without a look at an image",
    "missingness": "What is not known, per class",
    "continuous": "Continuous attributes",
    "pairs": "How far attributes determine each other",
    "collect": "Which empty combinations to collect first",
    "parts": "Parts of the cohort that share neither class nor level",
}


def audit(run: Run) -> Section:
    """The audit with its alarms, and the counts of each attribute that is crossed with the class."""
    section = ("audit", "How skewed is the cohort?")
    if not run.audit.found and run.counts.empty:
        return Section(*section, ["The cohort has not been audited yet."])
    blocks: list[Table | Picture] = [_count_map(run, name) for name in run.crossed if _counted(run, name)]
    for key, title in AUDIT_TITLES.items():
        if key in run.audit.tables:
            blocks.append(table_of(title, run.audit.tables[key], open=key in ("association", "ceiling")))
    if "ceiling" in run.training_audit.tables:
        title = "The same of the training patches, after the hold-out: the shortcut that a classifier can learn"
        blocks.append(table_of(title, run.training_audit.tables["ceiling"]))
    calm = [] if run.audit.alarms else [_without_alarm(run)]
    return Section(*section, [*run.audit.notes, *_composing(run), *calm], run.audit.alarms, blocks)


def _composing(run: Run) -> list[str]:
    """Which empty combinations the seen ones determine: of the cohort, and of the training patches."""
    trained = [f"In the training patches, {text}" for text in run.training_audit.composing]
    return [f"{text}." for text in (*run.audit.composing, *trained)]


def _without_alarm(run: Run) -> str:
    """No alarm is no all-clear: attributes that give much of the class away are named."""
    found = run.audit.tables.get("ceiling", pd.DataFrame())
    rows = found[found["grade"].isin(["caution", "strong"])] if "grade" in found else found.iloc[:0]
    named = [f"{name} ({grade})" for name, grade in zip(rows["attribute"], rows["grade"])] if len(rows) else []
    return f"Part of the class is given away by {', '.join(named)}." if named else "The audit raised no alarm."


def _counted(run: Run, attribute: str) -> bool:
    return len(run.counts) > 0 and bool(((run.counts["by"] == "class") & (run.counts["attribute"] == attribute)).any())


def _count_map(run: Run, attribute: str) -> Picture:
    counts = run.counts[(run.counts["by"] == "class") & (run.counts["attribute"] == attribute)]
    framed = run.framed if run.crossed == [attribute] else set()
    shown = counts.rename(columns={"group": "class", "patches": "n"})
    rows, columns = shown["level"].nunique(), shown["class"].nunique()
    total, most, empty = shown["n"].sum(), shown["n"].max(), rows * columns - (shown["n"] > 0).sum()
    cut = f" The figure shows the {figures.MAP_ROWS} largest levels." if rows > figures.MAP_ROWS else ""
    return Picture(
        f"Patches per class and {attribute}",
        figures.count_map(shown, attribute, framed),
        f"Heat map of {number(total)} patches: {rows} rows, one per {attribute}, and {columns} columns, one per "
        f"class. The fullest combination has {number(most)} patches. "
        f"{len(run.certificate.held_out)} combinations are held out.",
        f"There are {number(total)} patches; {empty} of {rows * columns} combinations are empty. The colour ends at "
        f"{number(min(figures.COUNT_CAP, most))} patches.{_framed(shown, framed)}{cut}",
        table_of("Counts of patches, slides and patients", counts, open=False),
    )


def _framed(counts: pd.DataFrame, framed: set[tuple[str, str]]) -> str:
    if not framed:
        return ""
    held = [one in framed for one in zip(counts["class"], counts["level"])]
    before = " They are shown as they were before the hold-out." if counts.loc[held, "n"].any() else ""
    return f" Frames mark held-out combinations.{before}"


def holdout(run: Run) -> Section:
    """The certificate: what was held out, how many patients each side has, and the hashes to check it by."""
    section, certificate = ("holdout", "What was held out?"), run.certificate
    if not certificate.found:
        return Section(*section, ["No combinations have been held out yet."])
    counts, held_out = certificate.counts, certificate.held_out
    blocks = [
        table_of("Patches, slides and patients of each split", counts.rename_axis("split").reset_index()),
        table_of(f"The {len(held_out)} held-out combinations", pd.DataFrame(held_out), open=False),
        facts("Certificate: rule, seed and hashes, from which anyone can check it again", certificate.facts),
    ]
    text = f"{len(held_out)} combinations of {' and '.join(certificate.columns)} have no patch in training."
    if run.lacking:
        text += f" The cohort itself lacks {len(run.lacking)} more, which are as unseen to the models."
    return Section(*section, [f"{text} Frames mark them in the figures."], blocks=blocks)
