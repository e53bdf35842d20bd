"""Are the images new? Copy rates against real patches of the same slides, and the most suspicious pairs."""

import pandas as pd

from medi.report import figures
from medi.report.figures import Axis
from medi.report.parts import Picture, Section, arm_name, in_order, metric_name, number, table_of
from medi.report.run import Run
from medi.report.sections.words import each_n, spoken

KNOWN = {"copy_rate": "copies of patches", "slide_leak": "leaks of slides"}


def copying(run: Run) -> Section:
    section = ("copying", "Are the images new?")
    if run.copying.empty:
        return Section(*section, ["Nobody has looked for copies of training patches yet."])
    text = (
        "A copy is nearer to a training patch, in any flip or rotation, than real patches of the same slides that no "
        "model saw ever are. A leak of slide identity is nearer to a slide than patches of other patients are."
    )
    return Section(*section, [text], blocks=[_rates(run.copying), *_suspects(run)])


def _rates(copying: pd.DataFrame) -> Picture:
    order = in_order(copying["arm"])
    shown = copying.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")
    shown = shown[~shown["metric"].str.endswith("_difference")].assign(axis=lambda table: table["metric"], group="")
    axes = [
        Axis(key, KNOWN.get(key, metric_name(key)), "share of images", 0.0) for key in dict.fromkeys(shown["metric"])
    ]
    return Picture(
        "Copy rates",
        figures.forest(shown, axes, "copying"),
        spoken(shown, "metric", "Share of images"),
        f"Dot: share of the images; line: its interval. {each_n(shown)}",
        table_of("Copy rates and leaks", copying, open=False),
    )


def _suspects(run: Run) -> list[Picture]:
    """The pairs that resemble each other most, as a contact sheet."""
    if run.pairs is None or not len(run.pairs):
        return []
    count = run.pairs.table.groupby(["arm", "rank"]).ngroups
    arms = ", ".join(arm_name(arm) for arm in in_order(run.pairs.table["arm"]))
    said = "; ".join(f"{key[1]} {arm_name(key[0])}: {note}" for key, note in _notes(run.suspects).items())
    return [
        Picture(
            "The most suspicious pairs",
            figures.contact_sheet(run.pairs, _notes(run.suspects)),
            f"{count} pairs of {arms}: a synthetic patch and the training patch that it resembles most. {said}".strip(),
            "In each pair left the synthetic patch, right its nearest training patch; below rank, model and the "
            "distance in multiples of the null: far below 1 is suspicious.",
            table_of("The suspicious pairs", run.suspects if len(run.suspects) else run.pairs.table, open=False),
        )
    ]


def _notes(suspects: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(arm, rank) -> 'ratio 0.31'."""
    if suspects.empty:
        return {}
    rows = suspects.itertuples()
    return {(str(row.arm), str(row.rank)): f"ratio {number(row.ratio)}" for row in rows}
