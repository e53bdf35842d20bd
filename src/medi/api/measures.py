"""Are synthetic patches like real ones, and does a classifier gain by them? `embed`, `fidelity` and `utility`.

Patches come as packed cohorts or as the folders that hold them; the results show themselves and keep tidy tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medi.api.decoded import round_trips
from medi.api.given import (
    SHOWN_ELSEWHERE,
    Given,
    arms_of_images,
    check_colour,
    cohort_of,
    columns_of,
    embedded,
    encoder_of,
    is_given,
    notes_on,
)
from medi.api.given import embed_sets as embed_sets
from medi.api.refusing import bare, refuse_names, refuse_sets, refuse_unknown, with_class
from medi.api.results import Fidelity, Mask, Utility
from medi.cohort.rule import Combination
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Advance, Show, Silent
from medi.core.sharding import Shard
from medi.evaluation.classify.arms import Arm, reference_of
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.classify.noise import NOISE, noise_arm, noise_features
from medi.evaluation.classify.probes import groups
from medi.evaluation.classify.scoring import CHANCE, EVERY
from medi.evaluation.classify.stained import STAIN, stain_arms
from medi.evaluation.classify.tasks import Task
from medi.evaluation.control import control
from medi.evaluation.encoders import Encoder, embed_share
from medi.evaluation.features import FLOORS, REAL, Embedded, check_sets
from medi.evaluation.fidelity.compare import distances, halves
from medi.evaluation.memorisation import Memorisation, Patches, memorisation
from medi.evaluation.splits import (
    ORACLE,
    RESERVE,
    TESTS,
    TRAIN,
    added,
    is_split,
    tested_parts,
    training_rows,
    unseen,
)

ENCODER = "colour-texture"
UNNAMED = "synthetic"  # the name of a set that is given without one
# no names for synthetic sets
TAKEN = frozenset({REAL, TRAIN, *FLOORS, NOISE, EVERY, CHANCE, *(name.removeprefix("test_") for name in TESTS)})


def embed(
    cohort: Given, encoder: str | Encoder = ENCODER, cache: str | Path | None = None, progress: Show | None = None
) -> Embedded:
    """Features float64 [n, d] of every patch of a packed cohort, beside its table; real and synthetic come alike (P2).

    encoder: a name, a name with its weights ("uni:PATH"), timm:ARCHITECTURE:PATH, torchscript:PATH, or an `Encoder`.
    cache: a folder that keeps features by the hashes of cohort and encoder. progress: shows bars.
    MediError where the cohort has no pixels or the encoder is unknown. Source of "colour-texture": this project
    (`medi.evaluation.encoders.colour_texture`); of the others see the page on encoders.

    >>> from medi.cohort import phantom
    >>> rows = embed(phantom.fresh([("acinar", "Alder")], 4, 0, "embed"))
    >>> rows.features.shape, len(rows)
    ((4, 67), 4)
    """
    sets = {"": cohort_of(cohort)}
    return embedded(sets, encoder_of(encoder, sets), cache, progress or Silent())[""]


def fidelity(
    real: Given,
    synthetic: Mapping[str, Given] | Given | None = None,
    /,
    *,
    over: Sequence[str] | None = None,
    n: int = 100,
    encoder: str | Encoder = ENCODER,
    draws: int = 1000,
    seed: int = 0,
    cache: str | Path | None = None,
    splits: Sequence[str] | None = None,
    features: str | Path | None = None,
    progress: Show | None = None,
    **named: Given,
) -> Fidelity:
    """Distances, control and memorisation of synthetic patches, by their names, against real ones.

    The slides of `real` are split in halves: one is the reference for all sets, the other the real-vs-real floor.
    Distances are compared at one n per combination of `over` (by default the columns of the hold-out, else the class
    and all categorical attributes), at most `n`, and per level at the shares of the training rows (of all real rows
    where the cohort is not split). Probes of real training patches tell whether a patch shows what was asked for;
    nearest training patches tell copies. Without synthetic sets the floor and the probes' accuracy are all there is.
    Beside the floor of models on latents stands `round_trip`: real patches as their autoencoder gives them back.
    draws: resamples behind each interval, 0 for none. splits: distances to these splits of `real` only. features: of
    `real`, in place of images; copies then cannot be told. A mapping takes any names; a set without one is "synthetic".

    MediError for sets of different sizes or colour, unknown columns, and names that are taken (real, floor). Source:
    Heusel et al., NeurIPS 2017 (Frechet distance); Drexlin et al., MICCAI 2025, Figure 3; others in their modules.

    >>> from medi.cohort import phantom
    >>> combinations = [(name, site) for name in ("acinar", "spindle") for site in ("Alder", "Birch")]
    >>> real = phantom.fresh(combinations, 40, 0, "real", patches_per_slide=4)
    >>> found = fidelity(real, made=phantom.fresh(combinations, 20, 1, "made"), n=20, draws=0)
    >>> list(found.to_frame().columns)
    ['scope', 'split', 'floor', 'made']
    """
    show = progress or Silent()
    cohort, sets = with_class(REAL, cohort_of(real, features), show), _named(synthetic, named, show)
    columns, chosen = columns_of(cohort, over), _in_splits(cohort, splits)
    extractor = encoder_of(encoder, {REAL: cohort, **sets})
    refuse_names(sets, columns)
    check_sets({name: bare(part) for name, part in {REAL: cohort, **sets}.items()}, columns)
    check_colour({REAL: cohort, **sets})
    best = round_trips(cohort.select(chosen), sets, columns, n, seed, show)
    rows = embedded({REAL: cohort, **best, **sets}, extractor, cache, show)
    rows = {name: found.assign(encoder=extractor.label) for name, found in rows.items()}
    whole, best_rows = rows.pop(REAL), {name: rows.pop(name) for name in best}
    asked = Asked(columns, seed, extractor.label, unseen(cohort, columns))
    tables = {"fidelity": _distances(whole, whole.take(chosen), best_rows | rows, show, asked, n, draws)}
    train, test = _probed(cohort, whole, columns, seed)
    shown = control(train, test, rows, over=columns, seed=seed, encoder=asked.encoder, held_out=asked.held_out)
    tables |= {"control": shown.figures, "confusion": shown.confusion}
    if not sets:
        return Fidelity(tables, columns, extractor.label, whole, chosen)
    made = {name: Patches(sets[name], found.features) for name, found in rows.items()}
    new = _memorisation(Patches(cohort, whole.features), made, columns, seed, show)
    tables |= {"memorisation": new.figures, "suspects": new.suspects}
    told = notes_on(extractor, {REAL: cohort, **sets})
    return Fidelity(tables, columns, extractor.label, whole, chosen, new.sheet, told)


def utility(
    real: Given,
    synthetic: Mapping[str, Given] | Given | None = None,
    /,
    *,
    over: Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    head: str = "tuned",
    heads: str | Sequence[str] = (),
    arms: str | Sequence[str] = ("all",),
    attributes: Sequence[str] = (),
    reference: str = "",
    seeds: int = 1,
    encoder: str | Encoder = ENCODER,
    features: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: Show | None = None,
    **named: Given,
) -> Utility:
    """The same classifier trained on real patches, on real ones with each synthetic set, and on every cheap baseline.

    `real` has the splits of a hold-out: train, and test_seen or test_unseen. Of a synthetic set the patches that fill
    combinations are added (column `fill` of a plan), or all where no column says. Real patches of the held-out
    combinations, given as oracle=COHORT, show what can be had at best. task: "nsclc", "uterine", "kidney", classes as
    in "A,B", or several of these; all classes by default. head: "tuned", "medi" or "uni", see
    `medi.evaluation.classify.probes`. heads: of `medi.evaluation.classify.heads`, such as "logistic" and "crm": every
    set that they suit is also compared under each of them, in the table "heads". arms: "all" for every baseline that
    needs no generator and no new embedding, "stains" for stain normalisation and augmentation, which embed the patches
    again, "none", or names. attributes: more columns for fairness gaps. reference: the set that is also tried alone and
    filtered; "medi", else the first. seeds: of folds and draws; figures are means. features: of `real`, a file or
    folder in place of images; sets then have features too, and arms of other images a reason in place of figures.
    Beside synthetic sets stands pure noise: a gain is claimed only above it, real patches alone and chance.

    MediError where `real` has no split, a patient or patch trains and tests, or a name is unknown.
    Source: Drexlin et al., MICCAI 2025; the baselines and heads name theirs in `medi.evaluation.classify`.

    >>> from medi.cohort import phantom
    >>> combinations = [(name, site) for name in ("acinar", "spindle") for site in ("Alder", "Birch")]
    >>> real = phantom.fresh(combinations, 16, 0, "real", patches_per_slide=4)
    >>> odd = real.table["patient"].isin(sorted(set(real.table["patient"]))[::2])
    >>> real = real.with_columns(split=odd.map({True: "test_seen", False: "train"}))
    >>> utility(real, made=phantom.fresh(combinations, 8, 1, "made"), arms="none").to_frame()["arm"].tolist()
    ['real', 'made', 'pure_noise', 'chance']
    """
    show = progress or Silent()
    cohort = with_class(REAL, cohort_of(real, features), show)
    sets = {name: added(name, part) for name, part in _named(synthetic, named, show).items()}
    columns, train = columns_of(cohort, over), cohort.where(split=TRAIN)
    extractor, tests = encoder_of(encoder, {REAL: cohort, **sets}), tested_parts(cohort, columns)
    names, crossed = ([given] if isinstance(given, str) else given for given in (arms, heads))
    more, generated = SHOWN_ELSEWHERE if is_given(extractor) else (), [name for name in sets if name != ORACLE]
    refuse_unknown(names, head, reference, generated, more, crossed)
    refuse_sets(train, sets, tests, columns, attributes)
    tasks, rows = _tasks(task, train), embedded({REAL: train, **sets, **tests}, extractor, cache, show)
    asked: dict[str, Any] = {"over": columns, "head": head, "heads": crossed, "only": names, "sets": set(sets)}
    asked |= {"seed": seed, "seeds": range(seed, seed + seeds), "attributes": attributes, "reference": reference}
    compare = partial(_compared, extractor=extractor, show=show, **asked)
    tables = _by_task(tasks, rows, {TRAIN: train, **tests}, sets, compare)
    return Utility(tables, columns, extractor.label, head, len(train), notes_on(extractor, {REAL: cohort, **sets}))


@dataclass(frozen=True)
class Asked:
    """What distances and probes share: the columns of combinations, and those combinations without training patch."""

    over: tuple[str, ...]
    seed: int
    encoder: str
    held_out: frozenset[Combination]


def _distances(
    whole: Embedded, chosen: Embedded, sets: Mapping[str, Embedded], show: Show, asked: Asked, n: int, draws: int
) -> pd.DataFrame:
    """One half of the chosen real patches' slides against the other and against each set."""
    first = halves(chosen.table, asked.over, asked.seed)
    training = training_rows(whole.table)
    with show.bars("comparing") as (advance,):
        return distances(
            chosen.take(first),
            chosen.take(~first),
            sets,
            training=training,
            levels=asked.over,
            progress=advance,
            n=n,
            draws=draws,
            over=asked.over,
            seed=asked.seed,
            encoder=asked.encoder,
            held_out=asked.held_out,
        )


def _probed(cohort: Cohort, whole: Embedded, over: Sequence[str], seed: int) -> tuple[Embedded, Embedded]:
    """What trains and what tests the probes: the splits, or halves of the patients."""
    if is_split(cohort):
        train, test = (whole.table["split"].isin(names).to_numpy(dtype=bool) for names in ([TRAIN], TESTS))
        return whole.take(train), whole.take(test)
    first = halves(whole.table.assign(slide=groups(whole.table)), over, seed)
    return whole.take(first), whole.take(~first)


def _memorisation(
    real: Patches, made: Mapping[str, Patches], over: Sequence[str], seed: int, show: Show
) -> Memorisation:
    """Against the training patches, or all real ones where nothing was held out."""
    if is_split(real.cohort):
        parts = [_part(real, names) for names in ([TRAIN], [RESERVE], TESTS)]
        train, reserve, others = parts[0] or real, parts[1], parts[2]
    else:
        train, reserve, others = real, None, None
    with show.bars("nearest training patches") as (advance,):
        return memorisation(train, made, reserve, others, over=over, seed=seed, progress=advance)


def _part(real: Patches, splits: Sequence[str]) -> Patches | None:
    which = real.cohort.table["split"].isin(splits).to_numpy(dtype=bool)
    return Patches(real.cohort.select(which), real.features[which]) if which.any() else None


def _compared(
    rows: Mapping[str, Embedded],
    *,
    sets: set[str],
    patches: Mapping[str, Cohort],
    more: Mapping[str, Cohort],
    extractor: Encoder,
    show: Show,
    only: Sequence[str],
    **asked: Any,
) -> dict[str, pd.DataFrame]:
    """The tables of one task. patches: of training and of the test splits; more: those that are added."""
    tests = {name: found for name, found in rows.items() if name not in sets and name != REAL and len(found)}
    if not tests:
        raise MediError("no test patch is of the classes of this task")
    synthetic = {name: rows[name] for name in rows if name in sets and name != ORACLE}
    recoloured = {name: patches[name] for name in (TRAIN, *tests)}
    made = _of_other_images(recoloured, more, rows[REAL], extractor, only, show, asked["seed"])
    if synthetic:
        name = asked["reference"] or reference_of(synthetic)
        replaced = rows[name]
        if not len(replaced):
            classes = ", ".join(sorted(set(rows[REAL].table["class"].astype(str))))
            raise MediError(f"the set {name} has no image of the classes that this task compares: {classes}")
        if is_given(extractor):
            made.append(noise_features(rows[REAL], replaced, asked["seed"]))
        else:
            made.append(noise_arm(rows[REAL], replaced, patches[TRAIN], extractor, asked["seed"]))
    with show.bars("classifiers") as (advance,):
        return study_arms(
            rows[REAL],
            synthetic,
            tests,
            oracle=rows.get(ORACLE),
            embedded=[arm for arm in made if arm.name not in sets],
            only=[name for name in only if name not in ("stains", *SHOWN_ELSEWHERE)],
            progress=advance,
            **asked,
        )


def _of_other_images(
    patches: Mapping[str, Cohort],
    more: Mapping[str, Cohort],
    real: Embedded,
    extractor: Encoder,
    only: Sequence[str],
    show: Show,
    seed: int,
) -> list[Arm]:
    """The arms of recoloured patches; why there are none where features are given.

    patches: of training and of the test splits; more: of the sets that are added.
    """
    if is_given(extractor):
        return arms_of_images(real, only, list(more))
    names = [name for name in STAIN if name in only or "stains" in only]
    tests = {name: part for name, part in patches.items() if name != TRAIN}
    with show.bars("staining") as (advance,):
        return stain_arms(patches[TRAIN], real, tests, extractor, seed, names, advance, more)


def _by_task(
    tasks: Sequence[Task],
    rows: Mapping[str, Embedded],
    parts: Mapping[str, Cohort],
    sets: Mapping[str, Cohort],
    compare: Callable[..., dict[str, pd.DataFrame]],
) -> dict[str, pd.DataFrame]:
    """The tables of all tasks, one after another."""
    made = []
    for task in tasks:
        own = {name: found.take(task.rows(found.table)) for name, found in rows.items()}
        patches, more = (
            {name: part.select(task.rows(part.table)) for name, part in given.items()} for given in (parts, sets)
        )
        tables = compare(own, patches=patches, more=more)
        made.append({name: table.assign(task=task.name) for name, table in tables.items()})
    return {name: pd.concat([tables[name] for tables in made], ignore_index=True) for name in made[0]}


def _tasks(given: str | Sequence[str] | None, train: Cohort) -> list[Task]:
    """The tasks of a call; MediError where training lacks one of their classes."""
    tasks = [Task.of(name) for name in ([given] if isinstance(given, str) else given or ["all"])]
    for task in tasks:
        task.check(train.table, "the training split")
    return tasks


def _named(synthetic: Mapping[str, Given] | Given | None, named: Mapping[str, Given], show: Show) -> dict[str, Cohort]:
    """The synthetic sets of a call, names checked."""
    if synthetic is not None and not isinstance(synthetic, Mapping):
        synthetic = {UNNAMED: synthetic}
    if twice := set(synthetic or {}) & set(named):
        raise MediError(f"the set {min(twice)!r} is given twice; call one of them something else")
    given = {**(synthetic or {}), **named}
    if clash := TAKEN & set(given):
        raise MediError(f"the name {min(clash)!r} is taken; call that set something else")
    return {name: with_class(name, cohort_of(part, name=name), show) for name, part in given.items()}


def _in_splits(cohort: Cohort, given: Sequence[str] | None) -> Mask:
    """Which rows are of the splits asked for."""
    if not given:
        return np.ones(len(cohort), dtype=bool)
    found = sorted(set(cohort.table["split"])) if "split" in cohort.table else []
    if unknown := [name for name in given if name not in found]:
        raise MediError(f"no patch has the split {unknown[0]!r}; the cohort's splits: {', '.join(found) or 'none'}")
    return cohort.table["split"].isin(given).to_numpy(dtype=bool)


def embed_part(cohort: Cohort, extractor: Encoder, cache: Path, shard: Shard, advance: Advance) -> Embedded | None:
    """What the verb calls: one part of the features, kept in `cache`; all of them to whom ends last."""
    features = embed_share(cohort, extractor, cache, shard, advance)
    return None if features is None else Embedded(features, cohort.table)
