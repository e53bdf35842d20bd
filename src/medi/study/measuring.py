"""The stages that measure: features, distances, control, memorisation, and what a classifier gains."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.api.measures import embed_part, embed_sets
from medi.cohort.table import Cohort
from medi.core.files import write_table
from medi.core.progress import Advance
from medi.core.set_names import NORMALISATIONS, parts_of
from medi.core.sharding import Shard
from medi.core.tables import (
    BY_ENCODER,
    CONFUSION,
    CONTROL,
    FIDELITY,
    MEMORISATION,
    RECOMMEND,
    RESULTS,
    SUSPECTS,
    UTILITY,
    of_main_probe,
)
from medi.evaluation.classify.arms import ALL, Arm, Material
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.classify.noise import NOISE, noise_arm
from medi.evaluation.classify.scoring import ORACLE
from medi.evaluation.classify.stained import STAIN, stain_arms
from medi.evaluation.control import Control, control
from medi.evaluation.encoders import Encoder, learned
from medi.evaluation.features import REAL, ROUND_TRIP, Embedded
from medi.evaluation.fidelity.compare import distances
from medi.evaluation.memorisation import memorisation
from medi.evaluation.recommend import Generated, judge
from medi.figures.names import DASH, known
from medi.report.recommended import recommended
from medi.study.context import MEDI, MODELS, STYLE, TRANSLATED, Study, combinations_of, embeddings_of, reopen
from medi.study.generating import inner_models
from medi.study.results import pick

PARTS = "parts"  # in the folder of features: those that other processes have embedded


def learn_encoder(study: Study, path: Path) -> str:
    """An encoder of the training patches' own."""
    patches = study.split().where(split="train")
    task = learned.LearnSettings(images=study.settings.evaluation.learned_images)
    with study.show.bars("learning an encoder") as (advance,):
        learned.learn(patches, path, study.settings.seed, task, advance)
    return f"from {len(patches):,} training patches"


def embed_patches(study: Study, path: Path, encoder: str) -> str:
    """The features of all patches by one encoder."""
    sets, extractor = study.stores(), study.encoder(encoder)
    ahead = path / PARTS
    for name, found in embed_sets(sets, extractor, ahead if ahead.exists() else None, study.show):
        table = pd.DataFrame(found.features.astype(np.float32)).add_prefix("f")
        write_table(path / f"{name}.parquet", table)
    shutil.rmtree(ahead, ignore_errors=True)
    return f"{sum(map(len, sets.values())):,} patches, {extractor.dimension} numbers each"


def embed_shard(folder: Path, item: str, advance: Advance, shard: Shard, encoder: str) -> None:
    """Worker: a part of the features by one encoder, which the stage puts together."""
    study = reopen(folder)
    sets, extractor = study.stores(), study.encoder(encoder)
    for cohort in sets.values():
        embed_part(cohort, extractor, folder / embeddings_of(study.settings, encoder) / PARTS, shard, advance)


def measure_fidelity(study: Study, path: Path) -> str:
    """Distances per combination and per class, in the features of every encoder."""
    table = pd.concat([_distances(study, name) for name in study.settings.evaluation.encoders], ignore_index=True)
    FIDELITY.write(path.parent, table)
    means = pick(table, metric="frechet", scope="combination_mean", split="unseen", encoder=study.encoder().label)
    return "unseen combinations: " + _listed(means, 1)


def _distances(study: Study, encoder: str) -> pd.DataFrame:
    sets = study.embedded(encoder)
    return distances(
        sets["reference"],
        sets["floor"],
        {name: sets[name] for name in (*MODELS, ROUND_TRIP) if name in sets},
        over=study.over,
        training=sets["train"].table,
        n=study.settings.evaluation.distance_images,
        seed=study.settings.seed,
        encoder=study.encoder(encoder).label,
        held_out=study.unseen(),
    )


def measure_control(study: Study, path: Path) -> str:
    """Does an image show the class and the level that were asked for?"""
    found = _control(study, study.embedded(), study.encoder().label)
    CONFUSION.write(path.parent, found.confusion)
    CONTROL.write(path.parent, found.figures)
    shown = pick(of_main_probe(found.figures), metric="as_asked", scope="all", split="unseen")
    return "; ".join(f"{name} as asked: {_listed(pick(shown, attribute=name))}" for name in study.over)


def _control(study: Study, sets: Mapping[str, Embedded], encoder: str, every_probe: bool = True) -> Control:
    """By the probes of training patches and of crossed ones, or by the latter alone where there are any."""
    crossed = _crossed(sets)
    return control(
        sets["train"] if every_probe or crossed is None else None,
        sets["reference"],
        {model: sets[model] for model in MODELS},
        held_out=frozenset(study.unseen()),
        over=study.over,
        seed=study.settings.seed,
        encoder=encoder,
        crossed=crossed,
    )


def _crossed(sets: Mapping[str, Embedded]) -> Embedded | None:
    """Real patches of every combination that test nothing: those drawn beside the cohort, or set aside from it."""
    if "oracle" not in sets:
        return None
    both = sets["floor"].join(sets["oracle"])
    return both.take(~both.table["sample_id"].duplicated().to_numpy(dtype=bool))


def measure_memorisation(study: Study, path: Path) -> str:
    """Is an image new, or a training patch again?"""
    parts = study.patches()
    found = memorisation(
        parts["train"],
        {model: parts[model] for model in MODELS},
        parts["reserve"] if len(parts["reserve"]) else None,
        parts["reference"],
        over=study.over,
        seed=study.settings.seed,
    )
    SUSPECTS.write(path.parent, found.suspects)
    if found.sheet is not None:
        found.sheet.save(study.folder / "suspects")
    MEMORISATION.write(path.parent, found.figures)
    return "copies: " + _listed(pick(found.figures, metric="copy_rate"))


def recommend_remedy(study: Study, path: Path) -> str:
    """Which remedy the training patches choose; then the true hold-out says what that cost."""
    sets = study.embedded()
    real, tests = sets["train"], _tests(study, sets)
    added = added_patches(study) if study.settings.utility.with_models else {}
    added.pop(ORACLE, None)
    stained = stained_of(study, real, list(tests), study.encoder(), added, NORMALISATIONS)
    heads = [name for name in study.settings.utility.recommend if name != ALL]
    made = _of_inner_models(study, sets, [arm for arm in stained if parts_of(arm.name)[1]])
    stained = [arm for arm in stained if arm.name in NORMALISATIONS]
    draws = study.settings.utility.with_models or None
    with study.show.bars("remedies") as (advance,):
        arms, seed = [Arm(REAL, real), *stained], study.settings.seed
        found = judge(arms, study.over, seed, heads, tests, advance, made, draws)
    RECOMMEND.write(path.parent, found.table)
    return recommended(found.table)


def _of_inner_models(study: Study, sets: Mapping[str, Embedded], stained: Sequence[Arm]) -> list[Generated]:
    """What CLS and MeDi add to each inner hold-out, and to all training patches; nothing where models are not asked.

    stained: the sets of all training patches with these images, after stain normalisation.
    """
    models = inner_models(study.settings, study.folder)
    if models is None:
        return []
    patches, seed = study.real_sets()["train"], study.settings.seed
    stains = [name for name in study.settings.evaluation.stains if name in NORMALISATIONS]
    made = models.generated(patches, study.over, study.encoder(), seed, False, None, study.show, stains)
    whole = _added(sets) | {arm.name: arm.rows.take(np.arange(len(arm.rows)) >= len(patches)) for arm in stained}
    return [replace(one, whole=whole[one.name]) for one in made]


def measure_utility(study: Study, path: Path) -> str:
    """One classifier on real patches, with each model's, with the oracle's, and on baselines without a generator."""
    tables = _gained(study, study.settings.evaluation.encoders[0], study.settings.utility.heads)
    for name in reversed(tables):  # the table that says that the stage is done comes last
        RESULTS[name].write(path.parent, tables[name])
    table = tables[UTILITY.name]
    overall = pick(table, metric="mean_recall", scope="all", split="all")
    chance = pick(table, metric="chance", split="all")["value"].iloc[0]
    return f"mean recall over all combinations: {_main_sets(overall)} (chance {chance:.3f})"


def _gained(study: Study, encoder: str, heads: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Utility and curves of every training set in the features of an encoder, and the sets under several heads."""
    s, sets, extractor = study.settings, study.embedded(encoder), study.encoder(encoder)
    added, tests, real = _added(sets), _tests(study, sets), sets["train"]
    like = Cohort.load(study.folder / "samples" / MEDI)
    own = stained_of(study, real, list(tests), extractor, added_patches(study))
    own.append(noise_arm(real, added[MEDI], like, extractor, s.seed))
    with study.show.bars("classifiers") as (advance,):
        return study_arms(
            real,
            added,
            tests,
            over=study.over,
            seed=s.seed,
            oracle=_oracle(study, sets, added),
            embedded=own,
            only=s.evaluation.arms,
            heads=heads,
            progress=advance,
        )


def _main_sets(rows: pd.DataFrame) -> str:
    return _listed(rows[rows["arm"].isin(["real", NOISE, *MODELS, "oracle"])])


def measure_by_encoder(study: Study, path: Path) -> str:
    """What is as asked and what a classifier gains, again in the features of every encoder but the first."""
    names = study.settings.evaluation.encoders[1:]
    table = pd.concat([_in_features_of(study, name) for name in names], ignore_index=True)
    BY_ENCODER.write(path.parent, table)
    shown = pick(table, metric="mean_recall", scope="all", split="all")
    return "mean recall: " + "; ".join(f"{name}: {_main_sets(rows)}" for name, rows in shown.groupby("encoder"))


def _in_features_of(study: Study, name: str) -> pd.DataFrame:
    """The rows of control and of utility; texts that only one of them has are empty."""
    label = study.encoder(name).label
    asked = _control(study, study.embedded(name), label, every_probe=False).figures
    both = pd.concat([asked, _gained(study, name)[UTILITY.name].assign(encoder=label)], ignore_index=True)
    texts = [column for column in both if not pd.api.types.is_numeric_dtype(both[column])]
    return both.fillna(dict.fromkeys(texts, ""))


def parts_of_utility(study: Study) -> Material:
    """What the training sets of a finished study are made of, in the features of its first encoder."""
    sets = study.embedded()
    added, tests = _added(sets), _tests(study, sets)
    return Material(sets["train"], added, tests, study.over, study.settings.seed, oracle=_oracle(study, sets, added))


def _added(sets: Mapping[str, Embedded]) -> dict[str, Embedded]:
    """What each model adds to the training patches."""
    fill = sets[MEDI].table["fill"].to_numpy(dtype=bool)
    added = {model: sets[model].take(fill) for model in MODELS}
    return added | {name: sets[name] for name in (TRANSLATED, STYLE) if name in sets}


def _tests(study: Study, sets: Mapping[str, Embedded]) -> dict[str, Embedded]:
    """The test patches by split."""
    return {name: sets["reference"].take(rows) for name, rows in study.tests(sets["reference"].table).items()}


def _oracle(study: Study, sets: Mapping[str, Embedded], added: Mapping[str, Embedded]) -> Embedded | None:
    """Real patches in place of those that MeDi adds, where there are any."""
    if ORACLE not in sets:
        return None
    return sets[ORACLE].take(_like(sets[ORACLE].table, added[MEDI].table, study.over))


def added_patches(study: Study) -> dict[str, Cohort]:
    """The patches of each model, and of the oracle, that are added to the training patches."""
    sets = study.sets()
    added = {model: sets[model].select(sets[model].table["fill"].to_numpy(dtype=bool)) for model in MODELS}
    if ORACLE not in sets:
        return added
    return added | {ORACLE: sets[ORACLE].select(_like(sets[ORACLE].table, added[MEDI].table, study.over))}


def stained_of(
    study: Study,
    real: Embedded,
    splits: Sequence[str],
    encoder: Encoder,
    more: Mapping[str, Cohort] = {},
    among: Sequence[str] = STAIN,
) -> list[Arm]:
    """The stain arms that the study asks for, in the features of an encoder; more: patches that are added."""
    s = study.settings
    names = [name for name in s.evaluation.stains if name in among]
    if not names:
        return []
    sets = study.sets()
    masks = study.tests(sets["reference"].table)
    tests = {split: sets["reference"].select(masks[split]) for split in splits}
    return stain_arms(sets["train"], real, tests, encoder, s.seed, names, more=more)


def _like(pool: pd.DataFrame, wanted: pd.DataFrame, over: tuple[str, ...]) -> Bool[np.ndarray, " n"]:
    """As many rows of every combination as `wanted` has, the first ones of `pool`."""
    needed = pd.Series(combinations_of(wanted, over)).value_counts()
    found = pd.Series(combinations_of(pool, over))
    return (found.groupby(found).cumcount() < found.map(needed).fillna(0)).to_numpy()


def _listed(rows: pd.DataFrame, digits: int = 3) -> str:
    """'cls 0.812, medi 0.907'; a dash where one is undefined, and the reason where all are (P7)."""
    if len(rows) and rows["value"].isna().all():
        why = next((reason for reason in rows["reason"] if reason), "")
        return f"not known ({why})" if why else "not known"
    return ", ".join(
        f"{arm} {f'{value:.{digits}f}' if known(value) else DASH}" for arm, value in zip(rows["arm"], rows["value"])
    )
