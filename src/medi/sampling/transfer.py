"""A real patch as it would look at another level (hospital, scanner), its tissue kept.

Dual diffusion implicit bridges (Su et al., ICLR 2023, algorithm 1): the patch goes up the probability-flow ODE to
noise under its own condition, and that noise down again under the target's. The flow has no randomness, so without
a change of condition the patch comes back, up to the solver's error.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.progress import Advance, unheard
from medi.core.settings import validated
from medi.core.sharding import WHOLE, Shard
from medi.models.checkpoint import Checkpoint, check_scale
from medi.models.denoiser import Denoiser
from medi.models.missing_conditions import condition_known
from medi.sampling.generate import Made, decoder_of, load_on_device, produce
from medi.sampling.guidance import bare
from medi.sampling.schedules import Sigmas
from medi.sampling.solvers import SOLVERS, check_bounds

STAMPS = ("source", "translated_from", "transfer")  # columns of a translated row beside its conditions


@validated
@dataclass(frozen=True)
class TransferSettings:
    """The way up and down: `steps` at full strength, uniform in log sigma between sigma_min and the top.

    strength: share of that way, in log sigma. 1 goes up to sigma_max, where nothing but the condition says how the
    patch is stained; less keeps more of the source's look and costs as much less. The image stands at sigma_min and
    returns there: a last step to 0 would smooth it.
    """

    steps: int = 15
    strength: float = 1.0
    sigma_min: float = 0.02
    sigma_max: float = 20.0
    solver: str = "dpm_solver_2m"
    batch: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000 or not 0 < self.sigma_min < self.sigma_max:
            raise MediError(f"a transfer needs 1 to 1000 steps and 0 < sigma_min < sigma_max, not {self!r}")
        if not 0 < self.strength <= 1:
            raise MediError(f"strength {self.strength:g}: expected more than 0 (as it was) and at most 1 (all the way)")
        if self.batch < 1:
            raise MediError(f"the internal batch must be at least 1, not {self.batch}")
        SOLVERS[self.solver]  # refuses an unknown name

    def sigmas(self) -> Float[np.ndarray, " k"]:
        """Noise levels on the way up."""
        top = self.sigma_min * (self.sigma_max / self.sigma_min) ** self.strength
        return np.geomspace(self.sigma_min, top, max(round(self.steps * self.strength), 1) + 1)

    def __str__(self) -> str:
        return f"{self.solver}, {self.steps} steps, log {self.sigma_min:g} to {self.sigma_max:g}, {self.strength:g}"


@dataclass(frozen=True)
class Bridge:
    """A model to translate patches with, and how it was trained."""

    denoiser: Denoiser
    checkpoint: Checkpoint
    settings: TransferSettings

    def invert(self, images: UInt8[np.ndarray, "n h w 3"], rows: pd.DataFrame) -> Float[Tensor, "n c y x"]:
        """The noise that stands for each patch under its own condition."""
        return self._follow(self.denoiser.space.encode(images), rows, self.settings.sigmas())

    def render(self, noise: Float[Tensor, "n c y x"], rows: pd.DataFrame) -> UInt8[np.ndarray, "n h w 3"]:
        """The patch that this noise stands for under another condition: levels, or mixes of levels."""
        return self.denoiser.space.decode(self._follow(noise, rows, self.settings.sigmas()[::-1]))

    @torch.inference_mode()
    def _follow(self, x: Float[Tensor, "n c y x"], rows: pd.DataFrame, sigmas: Sigmas) -> Float[Tensor, "n c y x"]:
        """x along the flow of the rows' conditions, in full batches, so that a patch does not depend on those beside
        it (P3)."""
        solve, size, out = SOLVERS[self.settings.solver], self.settings.batch, torch.empty_like(x)
        for start in range(0, len(x), size):
            index = np.arange(start, min(start + size, len(x)))
            padded = np.resize(index, size)
            z = condition_known(self.denoiser, self.checkpoint, rows.iloc[padded])
            moved = solve(bare(self.denoiser, z), x[padded].to(self.denoiser.device), sigmas)
            out[index] = moved[: len(index)].cpu()
        return out


def at_levels(cohort: Cohort, schema: Schema, attribute: str, levels: Sequence[str], own: bool = False) -> pd.DataFrame:
    """A row for every patch at every one of these levels of the attribute, all else as it is.

    The columns `source` and `translated_from` name the patch and its level; patient and slide stay those of the
    patch, so that splits hold (P5). A patch at its own level is left out unless `own` is set: inversion without change.
    """
    if not levels:
        raise MediError(f"name at least one {attribute} to transfer to; known: {', '.join(_known(schema, attribute))}")
    _check_columns(cohort, schema, attribute)
    every = np.repeat(np.arange(len(cohort)), len(levels))
    moved = _moved(cohort.table, every, attribute, np.tile(np.array(levels, dtype=object), len(cohort)))
    kept = moved if own else moved[moved["translated_from"] != moved[attribute]]
    if kept.empty:
        raise MediError(f"all patches are at {attribute} {', '.join(levels)} already: nothing to transfer")
    return kept.reset_index(drop=True)


def filling(cohort: Cohort, schema: Schema, attribute: str, plan: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row for every row of a plan: a patch of that class from another level, at the level that the plan names.

    The arm of a utility study that stands beside synthetic images of the same plan, for `transfer`. Patches are drawn
    without replacement in each combination, from all other levels as they come, all where they hold fewer; what the
    plan says beside class and level gives way to what holds for the patch. Give training patches alone (P5).
    """
    _check_columns(cohort, schema, attribute)
    table, known = cohort.table, cohort.table[attribute].isin(_known(schema, attribute))
    places, targets = [], []
    for (class_, level), rows in plan.groupby(["class", attribute]):
        donors = np.flatnonzero(known & (table["class"] == class_) & (table[attribute] != level))
        if not len(donors):
            raise MediError(
                f"{class_} x {level}: no other {attribute} has a patch of {class_}; leave it out of the plan"
            )
        places.append(seeds.generator("filling", seed, str(class_), str(level)).permutation(donors)[: len(rows)])
        targets.append(np.full(len(places[-1]), level, dtype=object))
    index, target = np.concatenate(places), np.concatenate(targets)
    order = np.argsort(index, kind="stable")  # the rows of a patch stand together: it is inverted once
    return _moved(table, index[order], attribute, target[order])


def _moved(
    table: pd.DataFrame, index: Int64[np.ndarray, " m"], attribute: str, target: Shaped[np.ndarray, " m"]
) -> pd.DataFrame:
    """These rows of a table at their targets, with what they were."""
    rows = table.iloc[index].reset_index(drop=True)
    marks = {"source": rows["sample_id"], "translated_from": rows[attribute]}
    return rows.assign(**marks, **{attribute: target, "sample_id": rows["sample_id"] + "@" + target})


def _check_columns(cohort: Cohort, schema: Schema, attribute: str) -> None:
    _known(schema, attribute)
    lacking = [a.name for a in schema.conditions if a.name not in cohort.table]
    if lacking:
        raise MediError(f"the patches lack the columns {', '.join(lacking)} that the model is conditioned on")


def _known(schema: Schema, attribute: str) -> tuple[str, ...]:
    found = schema.attribute(attribute)
    if found.kind != "categorical":
        raise MediError(f"{attribute} is a number; only attributes with levels can be transferred")
    return found.levels


def transfer(
    model: Path,
    cohort: Cohort,
    rows: pd.DataFrame,
    folder: Path,
    settings: TransferSettings,
    progress: Advance = unheard,
    shard: Shard = WHOLE,
) -> Cohort | None:
    """The cohort of the patches that `rows` (of `at_levels` or `filling`) names, written to `folder`; resumable.

    Each patch is inverted once for all its targets. Shards, processes and refusals are those of
    `generate`. Rows carry the model's hash in `origin` and the columns STAMPS; unknown levels, and patches
    of another size or magnification than the model's, are refused before the first image.
    """
    denoiser, checkpoint = load_on_device(model)
    check_scale(cohort, checkpoint)
    if clash := sorted({a.name for a in denoiser.schema.conditions} & set(STAMPS)):
        raise MediError(f"the model's attributes {', '.join(clash)} are names of our own columns; rename them")
    check_bounds(settings.solver, denoiser.space.is_bounded)
    bridge = Bridge(denoiser, checkpoint, settings)
    for wanted in (cohort.table, rows):
        condition_known(denoiser, checkpoint, wanted)
    made_by: dict[str, object] = {"model": checkpoint.hash, "transfer": asdict(settings), "cohort": cohort.digest()}
    made_by |= decoder_of(checkpoint)
    made_by["plan"] = content_hash(rows.to_csv(index=False))
    table = rows.assign(image="", origin=checkpoint.hash, transfer=str(settings))
    work = partial(_translate, bridge, cohort)
    made = Made(table, denoiser.schema, denoiser.settings.size, made_by, checkpoint.about())
    return produce(folder, _chunks(rows, settings.batch), work, made, progress, shard)


def _chunks(rows: pd.DataFrame, batch: int) -> list[pd.DataFrame]:
    """All rows of `batch` patches at a time; the rows of a patch stand together."""
    number = pd.factorize(rows["source"])[0] // batch
    return [part for _, part in rows.groupby(number)]


def _translate(bridge: Bridge, cohort: Cohort, rows: pd.DataFrame) -> UInt8[np.ndarray, "n h w 3"]:
    which, sources = pd.factorize(rows["source"])
    places: Int64[np.ndarray, " k"] = pd.Index(cohort.table["sample_id"]).get_indexer(sources)
    noise = bridge.invert(cohort.images[places], cohort.table.iloc[places])
    return bridge.render(noise[which], rows)
