"""What the transfers of many patches have in common: one change of colour and focus per pair of levels.

Single transfers scatter, slide by slide, about the change that a laboratory makes. Densities of stains add up
(Beer-Lambert), so another stain is a linear map of optical densities, and another focus a mix with blurred ones: a
least-squares fit over many transfers, in both directions, keeps what they agree on. Nothing is drawn into the tissue,
and a cohort costs as much as the patches that the changes are learned from.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy.ndimage import gaussian_filter1d

from medi.cohort.table import Cohort, slides_in_turn
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.progress import Advance, unheard
from medi.core.sharding import Shard
from medi.core.types import Images
from medi.sampling.generate import Made, load_on_device, produce
from medi.sampling.transfer import TransferSettings, at_levels, transfer

FEWEST = 8  # patches of a pair of levels
RIDGE = 1e-5  # of the mean square of the features
CHUNK = 1024  # patches at a time
Pair = tuple[str, str]  # from one level to another


@dataclass(frozen=True)
class Change:
    """OD' = W (OD, OD blurred by a pixel, 1), OD the optical density of red, green and blue; `weights` is W^T."""

    weights: Float64[np.ndarray, "7 3"]

    @classmethod
    def fit(cls, before: Images, after: Images) -> "Change":
        """Least squares over all pixels of n pairs of patches."""
        x, y = _features(before).reshape(-1, 7), _density(after).reshape(-1, 3)
        inner = x.T @ x
        return cls(np.linalg.solve(inner + RIDGE * np.trace(inner) / 7 * np.eye(7), x.T @ y))

    def __call__(self, images: Images) -> Images:
        light = 256 * np.exp(-(_features(images) @ self.weights)) - 1
        return np.rint(np.clip(light, 0, 255)).astype(np.uint8)


def _density(images: Images) -> Float64[np.ndarray, "n h w 3"]:
    return -np.log((np.arange(256) + 1.0) / 256)[images]


def _features(images: Images) -> Float64[np.ndarray, "n h w 7"]:
    sharp = _density(images)
    blurred = gaussian_filter1d(gaussian_filter1d(sharp, 1.0, axis=1, mode="nearest"), 1.0, axis=2, mode="nearest")
    return np.concatenate([sharp, blurred, np.ones_like(sharp[..., :1])], axis=-1)


def spread(cohort: Cohort, attribute: str, n: int, seed: int) -> Cohort:
    """At most n patches of each level, from as many slides as there are."""
    table = cohort.table
    order = seeds.generator("common change", seed).permutation(len(table))
    order = order[slides_in_turn(table.iloc[order])]
    place = table.iloc[order].groupby(attribute).cumcount().to_numpy()
    return cohort.select(np.sort(order[place < n]))


def changes(drawn: Cohort, singles: Cohort, attribute: str) -> dict[Pair, Change]:
    """The change of every pair of levels among single transfers of the patches `drawn`, from those of both ways."""
    places = pd.Index(drawn.table["sample_id"]).get_indexer(singles.table["source"])
    pairs = list(zip(singles.table["translated_from"], singles.table[attribute]))
    found = {}
    for pair in sorted(set(pairs)):
        there, back = (_positions(pairs, way) for way in (pair, pair[::-1]))
        if len(there) + len(back) < FEWEST:
            raise MediError(
                f"{attribute} {pair[0]} to {pair[1]}: {len(there) + len(back)} patches are too few to learn a common "
                f"change from; give at least {FEWEST} of each level, or transfer them one by one"
            )
        before = np.concatenate([drawn.images[places[there]], singles.images[back]])
        after = np.concatenate([singles.images[there], drawn.images[places[back]]])
        found[pair] = Change.fit(before, after)
    return found


def _positions(pairs: Sequence[Pair], wanted: Pair) -> Int64[np.ndarray, " k"]:
    return np.array([i for i, pair in enumerate(pairs) if pair == wanted], dtype=np.int64)


def transfer_in_common(
    model: Path,
    cohort: Cohort,
    rows: pd.DataFrame,
    attribute: str,
    folder: Path,
    settings: TransferSettings,
    learn_from: int = 64,
    seed: int = 0,
    progress: Advance = unheard,
    shard: Shard = (0, 1),
) -> Cohort | None:
    """`transfer` by the common change of each pair of levels, learned from `learn_from` patches of each level.

    Single transfers of these are kept in folder/singles; resumable, and shards share them. A patch at its own level
    stays as it is. The result depends on the cohort, not only on the patch.
    """
    denoiser, checkpoint = load_on_device(model)
    drawn = spread(cohort, attribute, learn_from, seed)
    targets = sorted(set(rows[attribute]))
    asked = at_levels(drawn, denoiser.schema, attribute, targets)
    singles = transfer(model, drawn, asked, folder / "singles", settings, progress, shard)
    if singles is None:
        return None
    work = partial(_changed, cohort, changes(drawn, singles, attribute), attribute)
    made_by = {"model": checkpoint.hash, "transfer": asdict(settings), "cohort": cohort.digest(), "seed": seed}
    made_by |= {"plan": content_hash(rows.to_csv(index=False)), "common": learn_from}
    table = rows.assign(image="", origin=checkpoint.hash, transfer=f"{settings}, in common of {learn_from}")
    chunks = [rows.iloc[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    made = Made(table, denoiser.schema, denoiser.settings.size, made_by, checkpoint.about())
    return produce(folder, chunks, work, made)


def _changed(cohort: Cohort, found: dict[Pair, Change], attribute: str, rows: pd.DataFrame) -> Images:
    places = pd.Index(cohort.table["sample_id"]).get_indexer(rows["source"])
    images = cohort.images[places]
    for (home, target), part in rows.reset_index(drop=True).groupby(["translated_from", attribute]):
        if home != target:
            images[part.index] = found[str(home), str(target)](images[part.index])
    return images
