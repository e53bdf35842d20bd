"""How close the images are to real ones: the paper's Figure 3, maps with floors, other measures, the guard."""

import pandas as pd

from medi import figures
from medi.figures import Axis
from medi.figures.names import SPLITS, in_order, metric_name, split_title, splits_of
from medi.report.parts import Picture, Section, Table, table_of
from medi.report.run import Run, pick
from medi.report.sections.words import each_n, left_out, spoken
from medi.report.sentences import guarded

DISTANCES = ("frechet", "frechet_difference")
CLOSER = {"mmd2": "lower is closer", "kid": "lower is closer"}
COVERED = {
    "precision": "share of images that look real",
    "recall": "share of real ones that are covered",
    "density": "real-looking neighbours, 1 is real",
    "coverage": "share of real ones with an image near",
    "duplicates": "share of images that repeat others",
}
ROUND_TRIP = "round_trip"  # an arm: real patches after an autoencoder's round trip
OTHERS = (*CLOSER, *COVERED)


def fidelity(run: Run) -> Section:
    section = ("fidelity", "How close are the images to real ones?")
    if run.fidelity.empty:
        return Section(*section, ["No distances have been measured yet."])
    encoder, measured = run.results.encoder, run.main(run.fidelity)
    rows = measured[measured["metric"] == "frechet"]
    blocks = [
        _class_bars(run, measured),
        *(_level_bars(measured, name) for name in run.crossed if name in measured),
        _distance_maps(run, measured, rows[rows["scope"] == "combination"]),
        _beside(measured),
        _encoders(run.fidelity),
    ]
    text = (
        "The Fréchet distance between real and generated images is lower where they are closer. The real-vs-real floor "
        "is the distance between two sets of real images at the same n. No model can be expected to be closer."
    )
    if (rows["arm"] == ROUND_TRIP).any():
        text += (
            " These models work on the latents of an autoencoder. Its round trip shows real images as it gives them "
            "back. That is the best that a model on its latents can reach."
        )
    dimension = f", {encoder['dimension']} numbers a patch" if encoder.get("dimension") else ""
    name = f"The encoder is {encoder['name']}{dimension}." if encoder.get("name") else ""
    return Section(
        *section,
        [text, *filter(None, [name]), *left_out(measured)],
        _guard(measured),
        [block for block in blocks if block],
        "Caution",
    )


def _guard(measured: pd.DataFrame) -> list[str]:
    """The notes of the collapse guard: a distance that is low because images are alike is no success."""
    places = {("combination_mean", split): split_title(split) for split in SPLITS} | {("class_mean", ""): "per class"}
    found = {text: guarded(measured, split, scope) for (scope, split), text in places.items()}
    said = "A low distance may come from this, so which set is closer is not said."
    return [f"{text.capitalize()}: {note}. {said}" for text, notes in found.items() for note in notes]


def _level_bars(measured: pd.DataFrame, attribute: str) -> Picture | None:
    rows = pick(measured, metric="frechet", scope=attribute)
    if rows.empty:
        return None
    listed = pick(measured, metric=DISTANCES, scope=[attribute, f"{attribute}_mean"])
    return Picture(
        f"Distance per {attribute}",
        figures.class_bars(rows, attribute),
        spoken(rows, attribute, "Fréchet distance"),
        f"All images of a {attribute} are compared together; every arm has the same mix of classes. {each_n(rows)}",
        table_of(f"Distances per {attribute}", listed, open=False),
    )


def _class_bars(run: Run, measured: pd.DataFrame) -> Picture | None:
    rows = pick(measured, metric="frechet", scope="class")
    if rows.empty:
        return None
    return Picture(
        "Distance per class",
        figures.class_bars(rows),
        spoken(rows, "class", "Fréchet distance"),
        f"All images of a class are compared together. Generated ones are mixed over {run.attribute} as the real "
        f"ones are. Dotted lines are averages over classes. {each_n(rows)}",
        table_of(
            "Distances per class",
            pick(measured[measured["scope"].str.startswith("class")], metric=DISTANCES),
            open=False,
        ),
    )


def _distance_maps(run: Run, measured: pd.DataFrame, rows: pd.DataFrame) -> Picture | None:
    if rows.empty:
        return None
    floor = " The real-vs-real floor stands beside them." if (rows["arm"] == "floor").any() else ""
    cut = f" The first {figures.MAP_ROWS} levels are shown." if rows[run.attribute].nunique() > figures.MAP_ROWS else ""
    return Picture(
        f"Distance per class and {run.attribute}",
        figures.distance_maps(rows, run.attribute, run.unseen),
        spoken(rows, "split", "Mean Fréchet distance over combinations"),
        "Darker is farther from real images, on one logarithmic scale for all maps."
        f"{floor} Frames mark combinations without a training patch. {each_n(rows)}{cut}",
        table_of(
            "Distances and paired differences per combination",
            pick(measured[measured["scope"].str.startswith("combination")], metric=DISTANCES),
            open=False,
        ),
    )


def _beside(measured: pd.DataFrame) -> Picture | None:
    """The other measures, averaged over combinations, for seen and unseen ones."""
    rows = _means(pick(measured, metric=OTHERS))
    if rows.empty:
        return None
    axes = [Axis(metric, metric_name(metric)) for metric in OTHERS if (rows["metric"] == metric).any()]
    blocks = [rows[rows["split"] == split].assign(group=split_title(split)) for split in splits_of(rows["split"])]
    said = [f"{metric_name(axis.key)}: {(CLOSER | COVERED)[axis.key]}" for axis in axes]
    return Picture(
        "Other measures of the same images",
        figures.forest(pd.concat(blocks).assign(axis=lambda table: table["metric"]), axes, "beside"),
        " ".join(
            spoken(rows[rows["metric"] == axis.key], "split", metric_name(axis.key).capitalize()) for axis in axes
        ),
        f"Means over combinations. {'; '.join(said)}. A generator whose images are all alike can have a low distance, "
        "but its recall and coverage fall.",
        table_of("Other measures, all combinations and differences", _others(measured), open=False),
    )


def _others(measured: pd.DataFrame) -> pd.DataFrame:
    return measured[~measured["metric"].isin(DISTANCES)]


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over combinations as measured, or of the combinations where no mean was."""
    if rows.empty or (rows["scope"] == "combination_mean").any():
        return pick(rows, scope="combination_mean")
    by = rows[rows["scope"] == "combination"].groupby(["metric", "split", "arm"], sort=False, as_index=False)
    return by.agg(value=("value", "mean")).assign(low=float("nan"), high=float("nan"), reason="")


def _encoders(fidelity: pd.DataFrame) -> Table | None:
    """The mean distance by every encoder that measured, where more than one did."""
    rows = pick(fidelity, metric="frechet", scope="combination_mean")
    if rows.empty or rows["encoder"].nunique() < 2:
        return None
    lines = []
    for (encoder, split), part in rows.groupby(["encoder", "split"], sort=False):
        means = part.groupby("arm")["value"].mean()
        lines.append({"encoder": encoder, "split": split} | {arm: means[arm] for arm in in_order(part["arm"])})
    return table_of("Mean Fréchet distance by each encoder", pd.DataFrame(lines))
