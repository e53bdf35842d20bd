"""The arm of pure noise: images of uniform random pixels in place of the synthetic ones (P13).

A classifier that is worse than chance gains by anything that makes it guess. Images that are worth something must gain
more than noise does.
"""

import numpy as np
import pandas as pd

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.seeds import generator
from medi.evaluation.classify.arms import Arm
from medi.evaluation.encoders import Encoder, embed
from medi.evaluation.features import Embedded, spreads

NOISE = "pure_noise"
ORIGIN = "noise"  # of its rows, in place of a model's hash
BATCH = 512


def noise_features(real: Embedded, synthetic: Embedded, seed: int) -> Arm:
    """Real rows, and noise for every synthetic row under the same labels, where features are given and no images.

    Each number is drawn from a normal distribution with the mean and the spread that it has over the training rows: as
    the noise lies among them, more is asked of a gain than by noise that lies apart.
    """
    table = _unnamed(synthetic.table)
    drawn = generator("pure noise", seed, "features").standard_normal((len(table), real.features.shape[1]))
    made = real.features.mean(axis=0, dtype=np.float64) + drawn * spreads(real.features)
    return Arm(NOISE, real.join(Embedded(made.astype(real.features.dtype), table)))


def noise_arm(real: Embedded, synthetic: Embedded, like: Cohort, encoder: Encoder, seed: int) -> Arm:
    """Real rows, and an image of noise for every synthetic row, under the same labels.

    real, synthetic: embedded rows of training and of the set that noise stands in for; like: packed patches whose size
    the images get; seed: of the pixels, each uniform on 0 to 255.
    """
    table, parts = _unnamed(synthetic.table), []
    for start in range(0, len(table), BATCH):
        rows = table.iloc[start : start + BATCH]
        shape = (len(rows), *like.images[:1].shape[1:])
        pixels = generator("pure noise", seed, start).integers(0, 256, shape, dtype=np.uint8)
        parts.append(embed(Cohort(rows, like.schema, Pixels.of(pixels)), encoder))
    return Arm(NOISE, real.join(Embedded(np.concatenate(parts).astype(real.features.dtype), table)))


def _unnamed(table: pd.DataFrame) -> pd.DataFrame:
    """The labels of a synthetic set, for rows that are noise."""
    named = table.assign(origin=ORIGIN, sample_id=[f"{ORIGIN}-{i}" for i in range(len(table))])
    return named.assign(patient="", slide="")
