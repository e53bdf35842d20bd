"""How skewed the cohort is, which attribute gives the class away, and what was held out of training."""

import pandas as pd

from medi import figures
from medi.figures.names import number
from medi.report.parts import Picture, Section, Table, facts, table_of
from medi.report.run import Run

AUDIT_TABLES = {
    "association": "What each attribute tells about the class",
    "ceiling": "What the metadata alone would score, without a look at an image",
    "missingness": "What is not known, per class",
    "continuous": "Continuous attributes",
    "pairs": "How far attributes determine each other",
}


def audit(run: Run) -> Section:
    """The audit with its alarms, and the counts of each attribute that is crossed with the class."""
    section = ("audit", "How skewed is the cohort?")
    if not run.audit and run.counts.empty:
        return Section(*section, ["The cohort has not been audited yet."])
    blocks: list[Table | Picture] = [_count_map(run, name) for name in run.crossed if _counted(run, name)]
    for key, title in AUDIT_TABLES.items():
        if run.audit.get(key):
            blocks.append(table_of(title, pd.DataFrame(run.audit[key]), open=key in ("association", "ceiling")))
    alarms, notes = run.audit.get("alarms", []), run.audit.get("notes", [])
    return Section(*section, [*notes, *([] if alarms else ["The audit raised no alarm."])], alarms, blocks)


def _counted(run: Run, attribute: str) -> bool:
    return len(run.counts) > 0 and bool(((run.counts["by"] == "class") & (run.counts["attribute"] == attribute)).any())


def _count_map(run: Run, attribute: str) -> Picture:
    counts = run.counts[(run.counts["by"] == "class") & (run.counts["attribute"] == attribute)]
    framed = run.framed if run.crossed == [attribute] else set()
    shown = counts.rename(columns={"group": "class", "patches": "n"})
    rows, columns = shown["level"].nunique(), shown["class"].nunique()
    total, most, empty = shown["n"].sum(), shown["n"].max(), rows * columns - (shown["n"] > 0).sum()
    cut = f" Only the first {figures.MAP_ROWS} levels are shown." if rows > figures.MAP_ROWS else ""
    return Picture(
        f"Patches per class and {attribute}",
        figures.count_map(shown, attribute, framed),
        f"Heat map of {number(total)} patches: {rows} rows, one per {attribute}, and {columns} columns, one per "
        f"class. The fullest combination has {number(most)}; {len(run.held_out)} combinations are held out.",
        f"n = {number(total)} patches; {empty} of {rows * columns} combinations are empty. The colour ends at "
        f"{number(min(figures.COUNT_CAP, most))} patches.{_framed(shown, framed)}{cut}",
        table_of("Counts of patches, slides and patients", counts, open=False),
    )


def _framed(counts: pd.DataFrame, framed: set[tuple[str, str]]) -> str:
    held = [cell in framed for cell in zip(counts["class"], counts["level"])]
    before = ", shown as they were before" if counts.loc[held, "n"].any() else ""
    return f" Framed: held out{before}." if framed else ""


def holdout(run: Run) -> Section:
    """The certificate: what was held out, how many patients each side has, and the hashes to check it by."""
    section = ("holdout", "What was held out?")
    if not run.certificate:
        return Section(*section, ["No combinations have been held out yet."])
    units = {"rows": "patches", "slides": "slides", "patients": "patients"}
    counts = pd.DataFrame({name: run.certificate.get(unit, {}) for unit, name in units.items()})
    rest = {k: v for k, v in run.certificate.items() if k not in (*units, "held_out", "emptied", "format_version")}
    blocks = [
        table_of("Patches, slides and patients of each split", counts.rename_axis("split").reset_index()),
        table_of(f"The {len(run.held_out)} held-out combinations", pd.DataFrame(run.held_out), open=False),
        facts("Certificate: rule, seed and hashes, from which anyone can check it again", rest),
    ]
    text = f"{len(run.held_out)} combinations of {' and '.join(run.held_columns)} have no patch in training"
    return Section(*section, [f"{text}; the figures frame them."], blocks=blocks)
