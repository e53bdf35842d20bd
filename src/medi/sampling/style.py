"""Patches at another level by a style model: the training set `style`, beside patches that MeDi itself translates."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from medi.cohort.table import Cohort
from medi.core.devices import device
from medi.core.files import content_hash
from medi.core.progress import Advance, unheard
from medi.core.sharding import WHOLE, Shard
from medi.core.types import Images
from medi.models.checkpoint import check_fits
from medi.models.space import PixelSpace
from medi.models.style import STYLE, StyleModel, load_style
from medi.sampling.generate import Made, produce

BATCH = 64  # patches at once, the last batch filled up, so that a patch does not depend on those beside it (P3)


def style_transfer(
    model: Path, cohort: Cohort, rows: pd.DataFrame, folder: Path, progress: Advance = unheard, shard: Shard = WHOLE
) -> Cohort | None:
    """The cohort of the patches that `rows` (of `transfer.at_levels` or `filling`) names, written to `folder`.

    It goes on after an interruption, and shards share it, as with `transfer`. Rows carry the model's hash in `origin`.
    MediError for levels that the model was not trained on, and patches of another size or magnification.
    """
    style = load_style(model)
    check_fits(cohort, style.config["size"], style.config["mpp"])
    for name in ("translated_from", style.attribute):
        style.numbers(rows[name])
    style.generator.to(device())
    made_by = {"model": style.hash, "cohort": cohort.digest(), "plan": content_hash(rows.to_csv(index=False))}
    table = rows.assign(image="", origin=style.hash, transfer=STYLE)
    chunks = [rows.iloc[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    made = Made(table, style.schema, style.config["size"], made_by)
    return produce(folder, chunks, partial(_restyled, style, cohort), made, progress, shard)


@torch.inference_mode()
def _restyled(style: StyleModel, cohort: Cohort, rows: pd.DataFrame) -> Images:
    padded = rows.iloc[np.resize(np.arange(len(rows)), BATCH)]
    places = pd.Index(cohort.table["sample_id"]).get_indexer(padded["source"])
    ways = (style.numbers(padded[name]) for name in ("translated_from", style.attribute))
    x = PixelSpace().encode(cohort.images[places])
    out = style.generator(*(part.to(device()) for part in (x, *ways)))
    return PixelSpace().decode(out)[: len(rows)]
