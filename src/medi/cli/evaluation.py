"""The verbs of the evaluation wing: embed, fidelity and utility, for real and synthetic cohorts of any origin."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medi.cli.help import add
from medi.cli.options import Seed
from medi.cli.terminal import Terminal, console, printable, say
from medi.cli.values import shard_of, split_commas
from medi.core.errors import MediError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from medi.cohort.table import Cohort

Real = Annotated[Path, typer.Argument(metavar="REAL", help="Packed cohort of real patches.")]
Synthetic = Annotated[
    list[str] | None, typer.Argument(metavar="NAME=COHORT", help="Synthetic cohorts, of any generator.")
]
Over = Annotated[
    list[str] | None, typer.Option(help="Columns whose combinations are compared.", show_default="class, attributes")
]
EncoderName = Annotated[str, typer.Option("--encoder", help="Feature extractor.")]
Cache = Annotated[
    Path | None, typer.Option(help="Keep embeddings here, by hash of cohort and encoder.", show_default=False)
]
DEFAULT_ENCODER = "colour-texture"
SPLITS = ("test_seen", "test_unseen")
NOTES = 8  # shown; the tables have all


def embed(
    packed: Annotated[Path, typer.Argument(metavar="PACKED", help="Packed cohort, real or synthetic.")],
    out: Annotated[Path, typer.Option("--out", help="Table to write.")] = Path("embeddings.parquet"),
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = None,
    jpeg: Annotated[
        int | None, typer.Option(min=1, max=100, help="Quality of a JPEG round trip before.", show_default="none")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or mixed: bf16, fp16.")] = "fp32",
    shard: Annotated[str, typer.Option(metavar="I/N", help="Part I of N, from 0, with one --cache.")] = "0/1",
) -> None:
    """Features of every patch as a table.

    The Parquet table has sample_id and a column per number. ENCODER is a name (uni), a name with its weights
    (uni:PATH), timm:ARCHITECTURE:PATH or torchscript:PATH. The same command goes on where it stopped.

    Example: medi embed my-packed --encoder uni --cache embeddings
    """
    from medi.core.progress import Silent
    from medi.core.sharding import process
    from medi.evaluation.encoders import embed_share
    from medi.evaluation.encoders import encoder as named

    cohort, extractor, part = _packed(packed), named(encoder, jpeg, precision), shard_of(shard)
    sharers = part[1] * process("WORLD_SIZE", 1)
    if cache is None and sharers > 1:
        raise MediError("shards need --cache, one folder for all of them")
    store, started = cache or out.with_name(f".{out.name}.parts"), time.perf_counter()
    with (Silent() if process("RANK", 0) else Terminal()).bars("embedding") as (advance,):
        features = embed_share(cohort, extractor, store, part, advance)
    took = time.perf_counter() - started
    if features is None:
        say(f"shard {shard} is done ({took:.0f} s); the last of the others writes all: {out}")
        return
    _write_features(out, features, cohort)
    if cache is None:
        shutil.rmtree(store, ignore_errors=True)
    rate = f"{len(cohort) / took:,.0f} images/s" if sharers == 1 else f"{took:.0f} s"
    say(f"{len(cohort):,} patches, {extractor.dimension} numbers each by {extractor.label} ({rate}): {out}")


def _write_features(out: Path, features: "np.ndarray", cohort: "Cohort") -> None:
    import pandas as pd

    from medi.core.files import write_table

    table = pd.DataFrame(features).add_prefix("f")
    table.insert(0, "sample_id", cohort.table["sample_id"].to_numpy())
    write_table(out, table)


def fidelity(
    real: Real,
    synthetic: Synthetic = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables.")] = Path("medi-fidelity"),
    over: Over = None,
    n: Annotated[int, typer.Option(min=2, help="Images of each set in a distance; fewer where there are fewer.")] = 100,
    split: Annotated[
        list[str] | None, typer.Option(help="Distances to these splits of REAL only.", show_default="all")
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Resamples behind each interval; 0: no intervals.")] = 1000,
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Are the images right, as asked and new?

    Distances at equal n per combination, class and level: the slides of REAL are split in halves, one the reference
    for all, the other the floor. Probes trained on real patches tell whether a sample shows what was asked for (on
    splits train and test_*, else on halves). Nearest training patches tell copies (against split reserve). Without a
    synthetic cohort the floors and the probes' accuracy are all there is. Combinations of which REAL has no training
    patch are "unseen".

    Example: medi fidelity my-packed medi=my-samples --over class,site
    """
    from medi.api import measures

    sets = _arms(synthetic or [])
    found = measures.fidelity(
        real,
        sets,
        over=_columns(over),
        n=n,
        encoder=encoder,
        draws=draws,
        seed=seed,
        cache=cache,
        splits=_columns(split),
        progress=Terminal(),
    )
    found.save(out)
    _show_fidelity(found.tables, found.over, f"Frechet distance, {encoder}, n <= {n}")
    slides = found.real.table[found.chosen]["slide"].nunique()
    say(f"{int(found.chosen.sum()):,} real patches of {slides:,} slides; tables: {out}")


def utility(
    real: Real,
    synthetic: Synthetic = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables.")] = Path("medi-utility"),
    over: Over = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="nsclc, uterine, kidney, or classes as in A,B; may be repeated.", show_default="all classes"),
    ] = None,
    probe: Annotated[str, typer.Option(help="Preset of the classifier: tuned, medi or uni.")] = "tuned",
    arms: Annotated[
        list[str] | None, typer.Option(help="What else is compared: all, stains, none or names.", show_default="all")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="More columns for fairness gaps, such as race.", show_default="none")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of folds and draws; figures are means.")] = 1,
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """What synthetic images are worth to a classifier.

    The same classifier is trained on real patches, on real ones with each synthetic cohort, and on every baseline that
    needs no generator. REAL has the splits of `medi holdout`: train, and test_seen or test_unseen. Of a synthetic
    cohort the images that fill combinations are added (column `fill` of `medi plan`), or all where it does not say.
    Real patches of the held-out combinations, given as oracle=COHORT, show what can be had at best. `--arms all,stains`
    also compares stain normalisation and augmentation, for which the patches are embedded again.

    Example: medi utility my-packed medi=my-samples --over class,site
    """
    from medi.api import measures

    found = measures.utility(
        real,
        _arms(synthetic or []),
        over=_columns(over),
        task=task,
        head=probe,
        arms=split_commas(arms or ["all"]),
        attributes=split_commas(attribute or []),
        seeds=seeds,
        encoder=encoder,
        cache=cache,
        seed=seed,
        progress=Terminal(),
    )
    found.save(out)
    for name, table in found.tables["utility"].groupby("task", sort=False):
        accuracy = table[(table["metric"] == "balanced_accuracy") & (table["scope"] == "all")]
        _show_arms(accuracy, f"Balanced accuracy, classes: {name}, probe: {probe}")
        _show_pairs(table, "balanced_accuracy_difference", ("all",))
    say(f"{found.rows:,} real training patches; tables: {out / 'utility.parquet'}")


def _packed(folder: Path) -> "Cohort":
    from medi.cohort.table import Cohort

    cohort = Cohort.load(folder)
    if cohort.pixels is None:
        raise MediError(f"{folder}: not packed; `medi pack {folder} --size 64 --out packed` decodes its images")
    return cohort


def _arms(given: Sequence[str]) -> dict[str, Path]:
    """{"medi": folder} from medi=FOLDER."""
    pairs = [text.partition("=") for text in given]
    if wrong := next((text for text, pair in zip(given, pairs) if not (pair[0] and pair[2])), None):
        raise MediError(f"{wrong!r}: expected NAME=COHORT, such as medi=my-samples")
    names = [name for name, _, _ in pairs]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise MediError(f"the name {twice[0]!r} is taken; call that set something else")
    return {name: Path(folder) for name, _, folder in pairs}


def _columns(given: list[str] | None) -> list[str] | None:
    return split_commas(given) if given else None


def _show_fidelity(tables: "Mapping[str, pd.DataFrame]", columns: tuple[str, ...], title: str) -> None:
    from medi.evaluation.fidelity.measures import WITHHELD

    found, control = tables["fidelity"], tables["control"]
    _show(found[found["metric"] == "frechet"], columns, title)
    means = ("combination_mean", *(f"{column}_mean" for column in columns))
    _show_pairs(found[found["against"] != "floor"], "frechet_difference", means)
    stopped = found[found["metric"].eq("frechet_difference") & found["reason"].str.contains(WITHHELD, regex=False)]
    for note in dict.fromkeys(stopped["reason"]) if len(stopped) <= NOTES else [f"{len(stopped)} x {WITHHELD}"]:
        say(f"  note: {note}")
    rows: Any = control[control["scope"].eq("all")].itertuples()
    for row in rows:
        say(f"{row.arm}, {row.metric.replace('_', ' ')} {row.attribute} {row.split}: {_number(row)}")
    figures: Any = tables["memorisation"].itertuples() if "memorisation" in tables else ()
    for row in figures:
        say(f"{row.arm}, {row.metric.replace('_', ' ')}: {_number(row)}")


def _number(row: Any) -> str:
    if row.value != row.value:
        return f"undefined ({row.reason})"
    return f"{row.value:.3f}" + ("" if row.low != row.low else f", 95 % [{row.low:.3f}, {row.high:.3f}]")


def _show(found: "pd.DataFrame", over: Sequence[str], title: str) -> None:
    """A row per place, a column per arm."""
    places = [column for column in ("scope", *over, "split") if column in found]
    table = Table(title=printable(title), title_justify="left")
    for name in places:
        table.add_column(name)
    arms = list(dict.fromkeys(found["arm"]))
    for arm in arms:
        table.add_column(printable(arm), justify="right")
    table.add_column("n", justify="right")
    for place, rows in found.groupby(places, sort=False):
        values = dict(zip(rows["arm"], rows["value"]))
        shown = ["" if values[arm] != values[arm] else f"{values[arm]:.3g}" for arm in arms]
        table.add_row(*(printable(str(part)) for part in place), *shown, f"{rows['n_real'].iloc[0]:,}")
    console.print(table)
    reasons = list(dict.fromkeys(reason for reason in found["reason"] if reason))
    for reason in reasons[:NOTES]:
        say(f"  note: {reason}")
    if len(reasons) > NOTES:
        say(f"  {len(reasons) - NOTES} more notes in the column reason")


def _show_arms(found: "pd.DataFrame", title: str) -> None:
    """A row per arm, a column per split, with intervals."""
    table = Table(title=printable(title), title_justify="left")
    splits = list(dict.fromkeys(found["split"]))
    for name in ("arm", *splits, "rows", "panel"):
        table.add_column(name, justify="right" if name in (*splits, "rows") else "left")
    rows: Any
    for arm, rows in found.groupby("arm", sort=False):
        at = {row.split: f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in rows.itertuples()}
        shown = [at.get(split, "").replace("nan", "-") for split in splits]
        table.add_row(printable(str(arm)), *shown, f"{rows['n_train'].iloc[0]:,}", rows["panel"].iloc[0])
    console.print(table)
    for reason in dict.fromkeys(reason for reason in found["reason"] if reason):
        say(f"  note: {reason}")


def _show_pairs(found: "pd.DataFrame", metric: str, scopes: Sequence[str]) -> None:
    """The paired differences, with their intervals."""
    rows: Any = found[(found["metric"] == metric) & found["scope"].isin(scopes)].itertuples()
    for row in rows:
        interval = "no interval" if row.low != row.low else f"95 % [{row.low:.3g}, {row.high:.3g}]"
        say(f"{row.arm} - {row.against}, {row.scope.replace('_', ' ')} {row.split}: {row.value:.3g}, {interval}")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command `medi`."""
    add(app, embed)
    add(app, fidelity)
    add(app, utility)
