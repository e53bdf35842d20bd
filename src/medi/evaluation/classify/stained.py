"""Arms of recoloured patches: stain normalisation and stain augmentation, which embed the patches again."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Advance, Tally, unheard
from medi.core.set_names import normalised_name
from medi.core.threads import cores
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.stain import HedJitter, Macenko, RandomStain, Reinhard, Transform
from medi.evaluation.encoders import Encoder, embed
from medi.evaluation.features import Embedded, Features

STAINS: dict[str, Callable[[UInt8[np.ndarray, "n h w 3"], int], Any]] = {
    "macenko": Macenko.fit,
    "reinhard": Reinhard.fit,
    "hed_jitter": HedJitter.fit,
    "randstainna": RandomStain.fit,
}
STAIN = tuple(STAINS)
AUGMENTATIONS = ("hed_jitter", "randstainna")
BATCH, THREADS = 512, 4  # patches that are stained at a time, and how many such batches at once


def stain_arms(
    train: Cohort,
    real: Embedded,
    tests: Mapping[str, Cohort],
    encoder: Encoder,
    seed: int,
    names: Sequence[str] = STAIN,
    progress: Advance = unheard,
    more: Mapping[str, Cohort] = {},
) -> list[Arm]:
    """Stain normalisation (both sides, reference from training) and stain augmentation (a second copy of each patch).

    Where training shows no stain, an arm has that as its reason. train: the patches of `real`, in its order; a test
    patch is normalised by itself alone. more: patches that are added to the real ones, generated ones or the oracle's;
    each normalisation also makes a set of normalised real and added patches, which `normalised_name` names. progress is
    told the patches that are embedded.
    """
    if len(train) != len(real):
        raise MediError(f"{len(train)} training patches for {len(real)} embeddings; embed the set again")
    others = sum(len(part) for part in (*tests.values(), *more.values()))
    arms, tally = [], Tally(progress, stain_patches(len(train), others, names))
    for name in names:
        try:
            transform = STAINS[name](train.images[:], seed).apply
        except MediError as error:
            own = [name] if name in AUGMENTATIONS else [name, *(normalised_name(added, name) for added in more)]
            arms += [Arm(one, real, reason=str(error)) for one in own]
            continue
        changed = Embedded(stained(train, transform, encoder, tally.part()), real.table)
        if name in AUGMENTATIONS:
            arms.append(Arm(name, real.join(changed)))
        else:
            moved = {split: stained(cohort, transform, encoder, tally.part()) for split, cohort in tests.items()}
            arms.append(Arm(name, changed, tests=moved))
            for added, part in more.items():
                rows = Embedded(stained(part, transform, encoder, tally.part()), part.table)
                arms.append(Arm(normalised_name(added, name), changed.join(rows), tests=moved))
    return arms


def stain_patches(train: int, others: int, names: Sequence[str]) -> int:
    """How many patches these arms embed, for so many of training and so many that test or are added."""
    return sum(train + (0 if name in AUGMENTATIONS else others) for name in names)


def stained(cohort: Cohort, transform: Transform, encoder: Encoder, progress: Advance = unheard) -> Features:
    """Embeddings of a cohort's patches, each transformed by its sample id; a few batches at a time, one per core."""
    ids = list(cohort.table["sample_id"])

    def work(start: int) -> Features:
        part = slice(start, start + BATCH)
        images = Pixels.of(transform(cohort.images[part], ids[part]))
        return embed(Cohort(cohort.table.iloc[part], cohort.schema, images), encoder)

    out, end = np.empty((len(cohort), encoder.dimension), dtype=np.float32), 0
    with ThreadPoolExecutor(min(cores(), THREADS)) as pool:
        for rows in pool.map(work, range(0, len(cohort), BATCH)):
            out[end : end + len(rows)] = rows
            end += len(rows)
            progress(end, len(cohort))
    return out
