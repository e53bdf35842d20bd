"""Are the images new? Copy rates against real patches of the same slides, and the pairs that look most alike."""

import pandas as pd

from medi import figures
from medi.core.claims import COPIES, LEAKS
from medi.figures import Axis
from medi.figures.names import arm_name, in_order, metric_name, number
from medi.report.parts import Picture, Section, table_of
from medi.report.pictures import pair_figure
from medi.report.run import Run
from medi.report.sections.words import each_n, spoken

RATES = {"copy_rate": ("copies of patches", COPIES), "slide_leak": ("patches like one training slide", LEAKS)}
REAL = {"real": "real, other patients", "reserve": "real, same slides"}


def memorisation(run: Run) -> Section:
    section = ("memorisation", "Are the images new?")
    if run.memorisation.empty:
        return Section(*section, ["The images have not been tested for memorisation yet."])
    text = [
        "A copy lies nearer to a training patch, in any flip or rotation, than all but 1 % of real patches of the same "
        "slides that no model saw. An image is like one training slide if it lies nearer to that slide than all but "
        "5 % of patches of other patients.",
        "Images that repeat nothing therefore lie at the dotted lines, not at zero.",
    ]
    return Section(*section, text, blocks=[_rates(run.memorisation), *_suspects(run)])


def _rates(table: pd.DataFrame) -> Picture:
    order = in_order(table["arm"])
    shown = table.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")
    shown = shown[~shown["metric"].str.endswith("_difference")]
    shown = shown.assign(axis=shown["metric"], group="")
    axes = [_axis(metric) for metric in dict.fromkeys(shown["metric"])]
    return Picture(
        "Rates of memorisation",
        figures.forest(shown, axes, "memorisation", _called),
        spoken(shown, "metric", "Share of images", _called),
        f"A dot is the share of the images, a line its interval. {each_n(shown)}",
        table_of("Rates of memorisation", table.drop(columns="origin", errors="ignore"), open=False),
    )


def _axis(metric: str) -> Axis:
    title, line = RATES.get(metric, (metric_name(metric), 0.0))
    return Axis(metric, title, "share of images", line)


def _called(arm: str) -> str:
    """Real patches are judged as well, to compare with."""
    return REAL.get(arm, arm_name(arm))


def _suspects(run: Run) -> list[Picture]:
    """The pairs that resemble each other most, side by side."""
    if run.pairs is None or not len(run.pairs):
        return []
    count = run.pairs.table.groupby(["arm", "rank"]).ngroups
    arms = ", ".join(arm_name(arm) for arm in in_order(run.pairs.table["arm"]))
    said = "; ".join(f"{key[1]} {arm_name(key[0])}: {note}" for key, note in _notes(run.suspects).items())
    return [
        Picture(
            "The images that most resemble a training patch",
            pair_figure(run.pairs, _notes(run.suspects)),
            f"{count} pairs of {arms}: a synthetic patch and the training patch that it resembles most. {said}".strip(),
            "The left patch of each pair is synthetic, the right one is its nearest training patch. Below stand the "
            "rank, the model and the ratio to the threshold. A ratio below 1 counts as a copy.",
            table_of("The pairs", run.suspects if len(run.suspects) else run.pairs.table, open=False),
        )
    ]


def _notes(suspects: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(arm, rank) -> 'ratio 0.31'."""
    if suspects.empty:
        return {}
    rows = suspects.itertuples()
    return {(str(row.arm), str(row.rank)): f"ratio {number(row.ratio)}" for row in rows}
