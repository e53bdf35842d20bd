"""Arms: the training sets that one probe is compared on, from real rows alone, with synthetic ones, or with both.

An inductive arm is made of training rows and its generator; only arms of the transductive panel have seen test rows.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Advance, Tally, unheard
from medi.evaluation.classify import alignment, reweighting
from medi.evaluation.classify.probes import Probe, text
from medi.evaluation.classify.reweighting import Method
from medi.evaluation.classify.scoring import MEDI, ORACLE, REAL
from medi.evaluation.classify.stain import HedJitter, Macenko, RandomStain, Reinhard, Transform
from medi.evaluation.encoders import Encoder, embed
from medi.evaluation.features import Embedded, Features

INDUCTIVE, TRANSDUCTIVE = "inductive", "transductive"
REAL_ONLY: dict[str, Method] = {
    "unweighted": reweighting.unweighted,
    "class_weights": reweighting.class_weights,
    "combination_weights": reweighting.combination_weights,
    "group_dro": reweighting.group_dro,
    "dfr": reweighting.dfr,
    "mixup": reweighting.mixup,
    "lisa": reweighting.lisa,
}
STAINS: dict[str, Callable[[UInt8[np.ndarray, "n h w 3"], int], Any]] = {
    "macenko": Macenko.fit,
    "reinhard": Reinhard.fit,
    "hed_jitter": HedJitter.fit,
    "randstainna": RandomStain.fit,
}
STAIN = tuple(STAINS)
AUGMENTATIONS = ("hed_jitter", "randstainna")
BATCH, THREADS = 512, 4  # patches that are stained at a time, and how many such batches at once


@dataclass(frozen=True)
class Arm:
    """A training set: its embedded rows, whose column `origin`, if there, is "real" or a model's hash.

    method: what is made of its rows; trains: the rows that train (others only help to choose C); tests: the test
    splits where the arm embeds them in its own way; reason: why there is no such training set, where there is none.
    """

    name: str
    rows: Embedded
    method: Method = reweighting.plain
    panel: str = INDUCTIVE
    trains: Bool[np.ndarray, " n"] | None = None
    tests: Mapping[str, Features] | None = None
    reason: str = ""

    @property
    def embeddings(self) -> Features:
        return self.rows.features

    @property
    def table(self) -> pd.DataFrame:
        return self.rows.table

    @property
    def chosen(self) -> Bool[np.ndarray, " n"]:
        return np.ones(len(self.table), dtype=bool) if self.trains is None else self.trains


def real_arms(real: Embedded, preset: str = "tuned", to: int = 0) -> Iterator[Arm]:
    """What can be had from the real rows: weights, resampling to `to` rows, robust losses, mixtures, aligned sites.

    Of class weights and none, `real` is what the preset has and the arm the other. They share one matrix.
    """
    yield Arm(REAL, real)
    same = "unweighted" if preset == "uni" else "class_weights"
    for name, method in REAL_ONLY.items():
        if name != same and not (name == "group_dro" and preset != "tuned"):  # its objective is a probe of its own
            yield Arm(name, real, method)
    if to > len(real):
        yield Arm("resampled", real, reweighting.resampled(to))


def standard_arms(
    real: Embedded,
    synthetic: Mapping[str, Embedded],
    tests: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    seed: int,
    oracle: Embedded | None = None,
    preset: str = "tuned",
    reference: str = "",
) -> Iterator[Arm]:
    """The arms on embeddings: real rows alone, with synthetic ones, the oracle, and the transductive one.

    reference: the synthetic set whose size resampling meets and that also stands alone and filtered, by default that of
    `reference_of`.
    """
    reference = reference or reference_of(synthetic)
    added = len(synthetic[reference]) if synthetic else 0
    yield from real_arms(real, preset, len(real) + added)
    if len(over) > 1:
        yield coral_arm(real, tests, over)
    yield from synthetic_arms(real, synthetic, over, seed, reference)
    if oracle is not None:
        yield Arm(ORACLE, real.join(oracle))
    if len(over) > 1:
        yield centred_arm(real, tests, over)


def coral_arm(real: Embedded, tests: Mapping[str, Embedded], over: Sequence[str]) -> Arm:
    """Training sites recoloured to one another; test rows by the map that training found for their site."""
    found = alignment.Coral.fit(real, over)
    moved = {split: found.apply(test) for split, test in tests.items()}
    return Arm("coral", Embedded(found.apply(real), real.table), tests=moved)


def centred_arm(real: Embedded, tests: Mapping[str, Embedded], over: Sequence[str]) -> Arm:
    """Sites centred, test sites by their own unlabelled rows: transductive."""
    train = Embedded(alignment.centred({REAL: real}, over)[REAL], real.table)
    return Arm("site_centred", train, panel=TRANSDUCTIVE, tests=alignment.centred(tests, over))


def reference_of(synthetic: Mapping[str, Embedded]) -> str:
    """The synthetic set that others are compared with where none is named: "medi", else the first; "" without any."""
    return MEDI if MEDI in synthetic else next(iter(synthetic), "")


def synthetic_arms(
    real: Embedded, synthetic: Mapping[str, Embedded], over: Sequence[str], seed: int, reference: str
) -> Iterator[Arm]:
    """Real rows with each synthetic set; the reference also alone, and with what a probe of real rows agrees with."""
    for name, rows in synthetic.items():
        yield Arm(name, real.join(rows))
    if reference in synthetic:
        yield filtered_arm(real, synthetic[reference], over, seed, reference)
        both = real.join(synthetic[reference])
        yield Arm(f"{reference}_only", both, trains=np.arange(len(both)) >= len(real))


def stain_arms(
    train: Cohort,
    real: Embedded,
    tests: Mapping[str, Cohort],
    encoder: Encoder,
    seed: int,
    names: Sequence[str] = STAIN,
    progress: Advance = unheard,
) -> list[Arm]:
    """Stain normalisation (both sides, reference from training) and stain augmentation (a second copy of each patch).

    train: the patches of `real`, in its order; a test patch is normalised by itself alone. progress is told the patches
    that are embedded.
    """
    if len(train) != len(real):
        raise MediError(f"{len(train)} training patches for {len(real)} embeddings; embed the set again")
    arms, tally = [], Tally(progress, stain_patches(len(train), sum(map(len, tests.values())), names))
    for name in names:
        transform = STAINS[name](train.images[:], seed).apply
        changed = Embedded(stained(train, transform, encoder, tally.part()), real.table)
        if name in AUGMENTATIONS:
            arms.append(Arm(name, real.join(changed)))
        else:
            moved = {split: stained(cohort, transform, encoder, tally.part()) for split, cohort in tests.items()}
            arms.append(Arm(name, changed, tests=moved))
    return arms


def stain_patches(train: int, tests: int, names: Sequence[str]) -> int:
    """How many patches these arms embed, for so many training and test patches."""
    return sum(train + (0 if name in AUGMENTATIONS else tests) for name in names)


def stained(cohort: Cohort, transform: Transform, encoder: Encoder, progress: Advance = unheard) -> Features:
    """Embeddings of a cohort's patches, each transformed by its sample id; a few batches at a time, one per core."""
    ids = list(cohort.table["sample_id"])

    def work(start: int) -> Features:
        part = slice(start, start + BATCH)
        images = Pixels.of(transform(cohort.images[part], ids[part]))
        return embed(Cohort(cohort.table.iloc[part], cohort.schema, images), encoder)

    out, end = np.empty((len(cohort), encoder.dimension), dtype=np.float32), 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS)) as pool:
        for rows in pool.map(work, range(0, len(cohort), BATCH)):
            out[end : end + len(rows)] = rows
            end += len(rows)
            progress(end, len(cohort))
    return out


def filtered_arm(real: Embedded, synthetic: Embedded, over: Sequence[str], seed: int, of: str = MEDI) -> Arm:
    """Real rows, and those of the set `of` whose class a probe of the real rows agrees with."""
    name = f"{of}_filtered"
    if real.table["class"].nunique() < 2:
        return Arm(name, real, reason="real rows of one class: no probe that could agree")
    probe = Probe.fit(real, over=over, seed=seed)
    agreed = probe.predict(synthetic.features) == text(synthetic.table["class"])
    return Arm(name, real.join(synthetic.take(agreed)))
