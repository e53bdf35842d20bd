"""The verbs of the evaluation wing: embed, fidelity and utility, for real and synthetic cohorts of any origin."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
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
    from medi.evaluation.classify.tasks import Task
    from medi.evaluation.control import Control
    from medi.evaluation.features import Embedded

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
    from medi.core.sharding import process
    from medi.evaluation.encoders import embed_share
    from medi.evaluation.encoders import encoder as named

    cohort, extractor, part = _packed(packed), named(encoder, jpeg, precision), shard_of(shard)
    sharers = part[1] * process("WORLD_SIZE", 1)
    if cache is None and sharers > 1:
        raise MediError("shards need --cache, one folder for all of them")
    store, started = cache or out.with_name(f".{out.name}.parts"), time.perf_counter()
    bar = nullcontext(None) if process("RANK", 0) else _counting("embedding", len(cohort) // sharers)
    with bar as count:
        features = embed_share(cohort, extractor, store, part, count)
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
    from medi.evaluation.encoders import encoder as named

    cohort, arms = _packed(real), _arms(synthetic or [])
    columns, mask = _over(cohort, over), _in_splits(cohort, split, real)
    _check_colour({"real": cohort, **arms})
    name = f"{encoder} {named(encoder).hash}"
    found = _embedded({"real": cohort, **arms}, encoder, cache)
    sets = {arm: rows.assign(encoder=name) for arm, rows in found.items()}
    whole = sets.pop("real")
    held_out = frozenset(_cells(whole.table, columns) - _trained(cohort, columns)) if _is_split(cohort) else frozenset()
    distances = _distances(whole.take(mask), sets, columns, held_out, n, seed, draws, name)
    control = _control(whole, sets, columns, held_out, seed, name, _is_split(cohort))
    tables = {"fidelity": distances, "control": control.figures, "confusion": control.confusion}
    if arms:
        tables |= _memorisation(cohort, whole, arms, sets, columns, seed, out)
    _write(out, tables, whole)
    _show_fidelity(tables, columns, f"Frechet distance, {encoder}, n <= {n}")
    say(f"{int(mask.sum()):,} real patches of {whole.table[mask]['slide'].nunique():,} slides; tables: {out}")


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
        list[str] | None, typer.Option(help="What else is compared: free, all, none or names.", show_default="free")
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
    Real patches of the held-out combinations, given as oracle=COHORT, show what can be had at best. `--arms all` also
    compares stain normalisation and augmentation, for which the patches are embedded again.

    Example: medi utility my-packed medi=my-samples --over class,site
    """
    import pandas as pd

    from medi.core.tables import CURVES, UTILITY
    from medi.evaluation.classify.tasks import Task

    cohort, added = _packed(real), {name: _added(name, part) for name, part in _arms(synthetic or []).items()}
    columns = _over(cohort, over)
    tests = _tests(cohort, columns, real)
    train = cohort.where(split="train")
    sets = _embedded({"real": train, **added, **tests}, encoder, cache)
    shared: dict[str, Any] = {"over": columns, "seed": seed, "seeds": range(seed, seed + seeds), "preset": probe}
    shared |= {"attributes": split_commas(attribute or []), "only": split_commas(arms or ["free"])}
    tables, curves = [], []
    for chosen in [Task.of(name) for name in task or ["all"]]:
        chosen.check(train.table, f"the training split of {real}")
        table, points = _compared(chosen, train, added, tests, sets, encoder, shared)
        tables.append(table.assign(task=chosen.name))
        curves.append(points.assign(task=chosen.name))
        accuracy = table[(table["metric"] == "balanced_accuracy") & (table["scope"] == "all")]
        _show_arms(accuracy, f"Balanced accuracy, classes: {chosen.name}, probe: {probe}")
        _show_pairs(table, "balanced_accuracy_difference", ("all",))
    path = UTILITY.write(out, pd.concat(tables, ignore_index=True))
    CURVES.write(out, pd.concat(curves, ignore_index=True))
    say(f"{len(train):,} real training patches; tables: {path}")


def _compared(
    task: "Task",
    train: "Cohort",
    added: dict[str, "Cohort"],
    tests: dict[str, "Cohort"],
    sets: dict[str, "Embedded"],
    encoder: str,
    shared: dict[str, Any],
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Utility and curves of one task."""
    from medi.evaluation.classify.arms import STAIN, stain_arms, stain_patches
    from medi.evaluation.classify.comparison import study_arms
    from medi.evaluation.encoders import encoder as named

    parts = {name: found.take(task.rows(found.table)) for name, found in sets.items()}
    asked = {name: cohort.select(task.rows(cohort.table)) for name, cohort in tests.items() if len(parts[name])}
    if not asked:
        raise MediError(f"task {task.name}: no test patch is of its classes")
    names = STAIN if "all" in shared["only"] else [name for name in STAIN if name in shared["only"]]
    patches = train.select(task.rows(train.table))
    with _counting("staining", stain_patches(len(patches), sum(map(len, asked.values())), names)) as count:
        stained = stain_arms(patches, parts["real"], asked, named(encoder), shared["seed"], names, count)
    synthetic, split = {name: parts[name] for name in added}, {name: parts[name] for name in asked}
    with Terminal().bars("probes", unit="arms") as (advance,):
        return study_arms(parts["real"], synthetic, split, stained=stained, progress=advance, **shared)


def _tests(cohort: "Cohort", over: Sequence[str], path: Path) -> dict[str, "Cohort"]:
    """The test splits by name; of the unseen patches those apart of whose site training has nothing."""
    if not _is_split(cohort):
        raise MediError(f"{path}: no patch is for training; run `medi holdout` first, then pack what it wrote")
    import numpy as np

    tests = {name.removeprefix("test_"): cohort.where(split=name) for name in SPLITS}
    places = [column for column in over if column != "class"]
    if places:
        known, unseen = _trained(cohort, places), tests["unseen"]
        new = [place not in known for place in unseen.table[places].itertuples(index=False, name=None)]
        which = np.array(new, dtype=bool)
        tests |= {"unseen": unseen.select(~which), "unseen_sites": unseen.select(which)}
    if not any(map(len, tests.values())):
        raise MediError(f"{path}: no patch is for testing (splits {' and '.join(SPLITS)}); hold out combinations")
    return {name: part for name, part in tests.items() if len(part)}


def _packed(folder: Path) -> "Cohort":
    from medi.cohort.table import Cohort

    cohort = Cohort.load(folder)
    if cohort.pixels is None:
        raise MediError(f"{folder}: not packed; `medi pack {folder} --size 64 --out packed` decodes its images")
    return cohort


def _arms(given: Sequence[str]) -> dict[str, "Cohort"]:
    """{"medi": cohort} from medi=FOLDER."""
    pairs = [text.partition("=") for text in given]
    if wrong := next((text for text, pair in zip(given, pairs) if not (pair[0] and pair[2])), None):
        raise MediError(f"{wrong!r}: expected NAME=COHORT, such as medi=my-samples")
    names = [name for name, _, _ in pairs]
    taken = {"real", "floor", *(name.removeprefix("test_") for name in SPLITS)}
    if clash := [name for i, name in enumerate(names) if name in taken or name in names[:i]]:
        raise MediError(f"the name {clash[0]!r} is taken; call that cohort something else")
    return {name: _packed(Path(folder)) for name, _, folder in pairs}


def _over(cohort: "Cohort", given: list[str] | None) -> tuple[str, ...]:
    columns = split_commas(given) if given else [a.name for a in cohort.schema.conditions if a.kind == "categorical"]
    known = {a.name for a in cohort.schema.conditions}
    if unknown := [name for name in columns if name not in known]:
        raise MediError(f"--over {unknown[0]}: no condition of this cohort; known: {', '.join(sorted(known))}")
    if "class" not in columns:
        raise MediError("--over needs the class among its columns")
    return tuple(columns)


def _in_splits(cohort: "Cohort", given: list[str] | None, path: Path) -> "np.ndarray":
    """Which rows are of the splits asked for."""
    import numpy as np

    if not given:
        return np.ones(len(cohort), dtype=bool)
    wanted = split_commas(given)
    found = sorted(set(cohort.table["split"])) if "split" in cohort.table else []
    if unknown := [name for name in wanted if name not in found]:
        raise MediError(f"{path}: no patch has the split {unknown[0]!r}; its splits: {', '.join(found) or 'none'}")
    return cohort.table["split"].isin(wanted).to_numpy(dtype=bool)


def _check_colour(cohorts: dict[str, "Cohort"]) -> None:
    """Grey patches against coloured ones would measure the colour alone."""
    import numpy as np

    grey = {}
    for name, cohort in ((name, cohort) for name, cohort in cohorts.items() if len(cohort)):
        images = cohort.images[np.unique(np.linspace(0, max(len(cohort), 1), 64, endpoint=False).astype(np.int64))]
        grey[name] = bool((images == images[..., :1]).all())
    if len(set(grey.values())) > 1:
        without, coloured = ([name for name in grey if grey[name] is kind] for kind in (True, False))
        raise MediError(
            f"{without[0]} has grey patches and {coloured[0]} coloured ones: pack both from images of one colour mode"
        )


def _distances(
    chosen: "Embedded",
    sets: dict[str, "Embedded"],
    columns: tuple[str, ...],
    held_out: "frozenset[tuple[str, ...]]",
    n: int,
    seed: int,
    draws: int,
    encoder: str,
) -> "pd.DataFrame":
    import pandas as pd

    from medi.evaluation.fidelity.compare import halves, per_class, per_combination

    first = halves(chosen.table, columns, seed)
    reference, floor = chosen.take(first), chosen.take(~first)
    marginal = chosen.table.groupby(list(columns)).size().rename("share").div(len(chosen)).reset_index()
    with Terminal().bars("comparing") as (advance,):
        shared: dict[str, Any] = {"n": n, "seed": seed, "encoder": encoder, "draws": draws, "progress": advance}
        cells = per_combination(reference, floor, sets, over=columns, held_out=held_out, **shared)
        levels = [per_class(reference, floor, sets, marginal, column=column, **shared) for column in columns]
    return pd.concat([cells, *levels], ignore_index=True)


def _control(
    whole: "Embedded",
    sets: dict[str, "Embedded"],
    columns: tuple[str, ...],
    held_out: "frozenset[tuple[str, ...]]",
    seed: int,
    encoder: str,
    is_split: bool,
) -> "Control":
    from medi.evaluation.classify.probes import groups
    from medi.evaluation.control import control
    from medi.evaluation.fidelity.compare import halves

    if is_split:
        train = whole.table["split"].eq("train").to_numpy(dtype=bool)
        test = whole.table["split"].isin(SPLITS).to_numpy(dtype=bool)
    else:
        train = halves(whole.table.assign(slide=groups(whole.table)), columns, seed)
        test = ~train
    parts = whole.take(train), whole.take(test)
    return control(*parts, sets, over=columns, seed=seed, encoder=encoder, held_out=held_out)


def _memorisation(
    cohort: "Cohort",
    whole: "Embedded",
    arms: dict[str, "Cohort"],
    sets: dict[str, "Embedded"],
    columns: tuple[str, ...],
    seed: int,
    out: Path,
) -> "dict[str, pd.DataFrame]":
    """The tables memorisation and suspects; the suspects' images go to a cohort of their own."""
    import numpy as np

    from medi.evaluation.memorisation import Patches, memorisation

    splits = cohort.table["split"] if _is_split(cohort) else None

    def part(names: Sequence[str]) -> Patches | None:
        which = splits.isin(names).to_numpy(dtype=bool) if splits is not None else np.zeros(len(cohort), dtype=bool)
        return Patches(cohort.select(which), whole.features[which]) if which.any() else None

    train = part(["train"]) or Patches(cohort, whole.features)
    made = {arm: Patches(arms[arm], sets[arm].features) for arm in arms}
    reserve, others = part(["reserve"]), part(SPLITS)
    total = sum(len(each) for each in (*made.values(), reserve, others) if each)
    with _counting("nearest training patches", total) as count:
        found = memorisation(train, made, reserve, others, over=columns, seed=seed, progress=count)
    if found.sheet is not None:
        found.sheet.save(out / "suspects")
    return {"memorisation": found.figures, "suspects": found.suspects}


def _write(out: Path, tables: "dict[str, pd.DataFrame]", whole: "Embedded") -> None:
    import numpy as np
    import pandas as pd

    from medi.core.files import write_table
    from medi.core.tables import RESULTS

    features = pd.DataFrame(whole.features.astype(np.float32)).add_prefix("f")
    features.insert(0, "sample_id", whole.table["sample_id"].to_numpy())
    write_table(out / "embeddings.parquet", features)
    for name, table in tables.items():
        RESULTS[name].write(out, table)


def _show_fidelity(tables: "dict[str, pd.DataFrame]", columns: tuple[str, ...], title: str) -> None:
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


def _embedded(cohorts: dict[str, "Cohort"], encoder: str, cache: Path | None) -> dict[str, "Embedded"]:
    """Embeddings and table of each cohort; sizes must agree."""
    import numpy as np

    from medi.evaluation.encoders import cached
    from medi.evaluation.encoders import encoder as named
    from medi.evaluation.features import Embedded

    extractor = named(encoder)
    sizes = {name: cohort.images.size for name, cohort in cohorts.items()}
    first = next(iter(sizes))
    if odd := [name for name, size in sizes.items() if size != sizes[first]]:
        raise MediError(
            f"{odd[0]} has patches of {sizes[odd[0]]} px and {first} of {sizes[first]}: pack both to one size"
        )
    found: dict[str, Embedded] = {}
    with _counting("embedding", sum(map(len, cohorts.values()))) as count:
        for name, cohort in cohorts.items():
            found[name] = Embedded(cached(cohort, extractor, cache, count).astype(np.float64), cohort.table)
    return found


@contextmanager
def _counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is told how many more are done."""
    done = 0
    with Terminal().bars(title) as (advance,):

        def count(more: int) -> None:
            nonlocal done
            done += more
            advance(done, total)

        yield count


def _added(name: str, cohort: "Cohort") -> "Cohort":
    """What fills, as rows that only train: a generator's images are packed like any others, with origin "real"."""
    part = _filling(cohort)
    if name == "oracle" or "origin" not in part.table:
        return part if name == "oracle" else part.with_columns(origin=name)
    return part.with_columns(origin=part.table["origin"].where(part.table["origin"] != "real", name))


def _filling(cohort: "Cohort") -> "Cohort":
    return cohort.select(cohort.table["fill"].to_numpy(dtype=bool)) if "fill" in cohort.table else cohort


def _is_split(cohort: "Cohort") -> bool:
    return "split" in cohort.table and bool((cohort.table["split"] == "train").any())


def _cells(table: "pd.DataFrame", over: Sequence[str]) -> set[tuple[str, ...]]:
    return set(table[list(over)].itertuples(index=False, name=None))


def _trained(cohort: "Cohort", over: Sequence[str]) -> set[tuple[str, ...]]:
    return _cells(cohort.where(split="train").table, over)


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
