"""The verbs of the evaluation wing: embed, fidelity and utility, for real and synthetic cohorts of any origin."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medi.cli_source import split_commas
from medi.cli_terminal import Terminal, console, printable, say
from medi.errors import MediError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from medi.cohort.table import Cohort
    from medi.evaluation.fidelity import Embedded
    from medi.evaluation.tasks import Task

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


def embed(
    packed: Annotated[Path, typer.Argument(metavar="PACKED", help="Packed cohort, real or synthetic.")],
    out: Annotated[Path, typer.Option("--out", help="Table to write.")] = Path("embeddings.parquet"),
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = None,
) -> None:
    """Features of every patch: a Parquet table with sample_id and a column per number.

    Example: medi embed my-packed --out my-embeddings.parquet
    """
    import pandas as pd

    from medi.files import write_table

    features, rows = _embedded({packed.name: _packed(packed)}, encoder, cache)[packed.name]
    table = pd.DataFrame(features).add_prefix("f")
    table.insert(0, "sample_id", rows["sample_id"].to_numpy())
    say(f"{len(table):,} patches, {features.shape[1]} numbers each: {write_table(out, table)}")


def fidelity(
    real: Real,
    synthetic: Synthetic = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables.")] = Path("medi-fidelity"),
    over: Over = None,
    n: Annotated[int, typer.Option(min=2, help="Images of each set in a distance; fewer where there are fewer.")] = 100,
    split: Annotated[
        list[str] | None, typer.Option(help="Compare with these splits of REAL only.", show_default="all")
    ] = None,
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Frechet distances per combination and per class, at equal n, beside the real-versus-real floor.

    The slides of REAL are split in halves: one is the reference for all, the other the floor. Without a synthetic
    cohort these floors are all there is. Combinations of which REAL has no training patch are "unseen".

    Example: medi fidelity my-packed medi=my-samples cls=cls-samples --over class,site --out my-fidelity
    """
    import pandas as pd

    from medi.evaluation.encoders import encoder as named
    from medi.evaluation.fidelity import halves, per_class, per_combination
    from medi.files import write_table

    cohort, arms = _packed(real), _arms(synthetic or [])
    columns, chosen = _over(cohort, over), _of_splits(cohort, split, real)
    sets = _embedded({"real": chosen, **arms}, encoder, cache)
    features, table = sets.pop("real")
    first = halves(table, columns, seed)
    reference, floor = _rows((features, table), first), _rows((features, table), ~first)
    cells = _cells(table, columns)
    held_out = cells - _trained(cohort, columns) if _is_split(cohort) else set()
    marginal = table.groupby(list(columns)).size().rename("share").div(len(table)).reset_index()
    shared: dict[str, Any] = {"n": n, "seed": seed, "encoder": f"{encoder} {named(encoder).hash}"}
    found = pd.concat(
        [
            per_combination(reference, floor, sets, over=columns, held_out=held_out, **shared),
            per_class(reference, floor, sets, marginal, **shared),
        ],
        ignore_index=True,
    )
    path = write_table(out / "fidelity.parquet", found)
    _show(found[found["metric"] == "frechet"], columns, f"Frechet distance, {encoder}, n <= {n}")
    _show_pairs(found, "frechet_difference", ("combination_mean", "class_mean"))
    say(f"{len(table):,} real patches of {table['slide'].nunique():,} slides; tables: {path}")


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
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """The same classifier on real patches, on real ones with each synthetic cohort, and on all that is free.

    REAL has the splits of `medi holdout`: train, and test_seen or test_unseen. Of a synthetic cohort the images that
    fill combinations are added (column `fill` of `medi plan`), or all where it does not say. Real patches of the
    held-out combinations, given as oracle=COHORT, show what can be had at best. `--arms all` also compares stain
    normalisation and augmentation, for which the patches are embedded again.

    Example: medi utility my-packed medi=my-samples cls=cls-samples --over class,site --out my-utility
    """
    import pandas as pd

    from medi.evaluation.tasks import Task
    from medi.files import write_table

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
    path = write_table(out / "utility.parquet", pd.concat(tables, ignore_index=True))
    write_table(out / "curves.parquet", pd.concat(curves, ignore_index=True))
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
    from medi.evaluation.arms import STAIN, stain_arms, stain_patches, take
    from medi.evaluation.comparison import study_arms
    from medi.evaluation.encoders import encoder as named

    parts = {name: take(found, task.rows(found[1])) for name, found in sets.items()}
    asked = {name: cohort.select(task.rows(cohort.table)) for name, cohort in tests.items() if len(parts[name][1])}
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


def _of_splits(cohort: "Cohort", given: list[str] | None, path: Path) -> "Cohort":
    if not given:
        return cohort
    wanted = split_commas(given)
    found = sorted(set(cohort.table["split"])) if "split" in cohort.table else []
    if unknown := [name for name in wanted if name not in found]:
        raise MediError(f"{path}: no patch has the split {unknown[0]!r}; its splits: {', '.join(found) or 'none'}")
    return cohort.where(split=wanted)


def _embedded(cohorts: dict[str, "Cohort"], encoder: str, cache: Path | None) -> dict[str, "Embedded"]:
    """Embeddings and table of each cohort; sizes must agree."""
    import numpy as np

    from medi.evaluation.encoders import cached
    from medi.evaluation.encoders import encoder as named

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
            found[name] = (cached(cohort, extractor, cache, count).astype(np.float64), cohort.table)
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


def _rows(embedded: "Embedded", which: "np.ndarray") -> "Embedded":
    return embedded[0][which], embedded[1][which].reset_index(drop=True)


def _join(first: "Embedded", second: "Embedded") -> "Embedded":
    import numpy as np
    import pandas as pd

    return np.concatenate([first[0], second[0]]), pd.concat([first[1], second[1]], ignore_index=True)


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
    for reason in dict.fromkeys(reason for reason in found["reason"] if reason):
        say(f"  note: {reason}")


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
        say(f"{row.arm}, {row.scope.replace('_', ' ')} {row.split}: {row.value:.3g}, {interval}")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command `medi`."""
    app.command()(embed)
    app.command()(fidelity)
    app.command()(utility)
