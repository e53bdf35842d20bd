"""The verb fidelity: are the images right, as asked and new?"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Cache, EncoderName, Features, OverAll, Real, Seed, Synthetic, folder, given, with_device
from medi.cli.result_tables import NOTES, show_differences, show_places, with_interval
from medi.cli.terminal import Terminal, say
from medi.cli.values import columns, folders, over_words, real_and_others
from medi.core.requests import only

if TYPE_CHECKING:
    import pandas as pd


def fidelity(
    real: Real,
    synthetic: Synthetic = None,
    out: Annotated[Path, folder("the tables")] = Path("medi-fidelity"),
    over: OverAll = None,
    n: Annotated[int, typer.Option(min=2, help="Images of each set in a distance; fewer where there are fewer.")] = 100,
    split: Annotated[
        list[str] | None, typer.Option(help="Distances to these splits of REAL only.", show_default="all")
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Resamples behind each interval; 0: no intervals.")] = 1000,
    encoder: EncoderName = "colour-texture",
    features: Features = None,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Are the images right, as asked and new?

    Distances at equal n per combination, class and level: the slides of REAL are split in halves, one the reference
    for all, the other the floor. Classifiers of real patches tell whether a sample shows what was asked for (trained on
    split train and tested on test_*, else on halves). Nearest training patches tell copies (against split reserve).
    Without a synthetic cohort the floors and the classifiers' accuracy are all there is. Combinations of which REAL has
    no training patch are "unseen".

    Example: medi fidelity my-packed medi=my-samples --over class,site
    """
    from medi.api import measures

    real, synthetic, features = real_and_others(real, synthetic, features)
    sets = folders(synthetic or [])
    asked: dict[str, Any] = {
        "n": n,
        "draws": draws,
        "encoder": encoder,
        "seed": seed,
        "over": columns(over),
        "splits": columns(split),
    }
    with only(out, "fidelity", {"real": real, **sets}, **asked, **given(features=features and str(features))):
        found = measures.fidelity(real, sets, features=features, cache=cache, progress=Terminal(), **asked)
        found.save(out)
    made_by = found.encoder.split()[0] if found.is_given else encoder
    _show(found.tables, found.over, f"Frechet distance, {made_by}, n <= {n}")
    for line in found.remarks:
        say(line)
    chosen = found.real.table[found.chosen]
    say(f"{len(chosen):,} real patches of {chosen['slide'].nunique():,} slides; tables: {out}")
    next_step("utility", real, *(synthetic or []), *over_words(over))


def _show(tables: "Mapping[str, pd.DataFrame]", over: tuple[str, ...], title: str) -> None:
    from medi.core.claims import GUARD

    found, control = tables["fidelity"], tables["control"]
    show_places(found[found["metric"] == "frechet"], over, title)
    means = ("combination_mean", *(f"{column}_mean" for column in over))
    show_differences(found[found["against"] != "floor"], "frechet_difference", means)
    stopped = found[found["metric"].eq("frechet_difference") & found["reason"].str.contains(GUARD, regex=False)]
    for note in dict.fromkeys(stopped["reason"]) if len(stopped) <= NOTES else [f"{len(stopped)} x {GUARD}"]:
        say(f"  note: {note}")
    row: Any
    for row in control[control["scope"].eq("all")].itertuples():
        say(f"{row.arm}, {row.metric.replace('_', ' ')} {row.attribute} {row.split}: {with_interval(row)}")
    for row in tables["memorisation"].itertuples() if "memorisation" in tables else ():
        say(f"{row.arm}, {row.metric.replace('_', ' ')}: {with_interval(row)}")


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(fidelity))
