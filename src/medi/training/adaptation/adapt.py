"""A new level of an attribute from a few patches, labelled or not: a hospital that training never saw.

First its vector alone, all weights as they are (textual inversion: Gal et al., ICLR 2023, section 4). Where the
class of patches is not known, the model says how likely each class is, and the vector is learned again from these. With
old patches at hand the weights are then tuned lightly on new and old ones (rehearsal), by low-rank changes and all of
them; a held-back part of the new patches decides which of the three is kept.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from medi.cohort.combinations import counts
from medi.cohort.pixels import tissue_share, to_float
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.checkpoint import check_scale, load_model, load_tensors, save_model, save_tensors
from medi.models.denoiser import Denoiser
from medi.models.missing_conditions import condition_known, met_missing
from medi.training.adaptation.low_rank import changes_of, check_installed, merged, weights_of, with_changes
from medi.training.training import Batch, Batches, DenoisingLoss, Recipe

FEWEST = 5  # patches
TISSUE = 0.1  # least share of a patch's pixels
HELD_BACK = 0.2  # share of the patches that decides
JUDGED = 384  # draws of a held-back loss
COPIES = 8  # rows of a patch whose class is uncertain
LEVELS = np.geomspace(0.1, 10.0, 10)  # noise levels at which classes are told apart
Progress = Callable[[int, int], None]
Counters = Int64[np.ndarray, " n"]
Loss = Callable[[Counters], Float[Tensor, ""]]
Draw = Callable[[Counters], Batch]
VECTOR, LOW_RANK, TUNED = "vector", "low_rank", "tuned"  # what was learned: the vector alone, or weights too
CHANGE = "change."  # prefix of low-rank changes in a level's file


@dataclass(frozen=True)
class AdaptSettings:
    """Images drawn for the vector (twice where classes are not known), for low-rank changes and for all weights; rates
    at the start, falling to 0. Half of each batch of the tuning is rehearsal."""

    vector_images: int = 2_400
    vector_rate: float = 0.03
    tune_images: int = 3_200
    low_rank_rate: float = 3e-3
    tune_rate: float = 5e-4
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 2 or min(self.vector_images, self.tune_images) < self.batch:
            raise MediError(f"an adaptation needs at least one batch of two images: {self!r}")


@dataclass(frozen=True)
class Adapted:
    """The model that knows the new level, and how it came to; `method` is VECTOR, LOW_RANK or TUNED."""

    path: Path
    method: str
    record: dict[str, Any]


def adapt(
    model: Path,
    patches: Cohort,
    attribute: str,
    name: str,
    out: Path,
    settings: AdaptSettings | None = None,
    rehearsal: Cohort | None = None,
    progress: Progress = lambda images, total: None,
) -> Adapted:
    """Write out/model.safetensors, which knows `name` as a further level of `attribute`, learned from `patches`.

    Their conditions are columns of the table, "" where not known; the column `attribute` need not be there. With the
    vector alone old levels stay as they were, bit for bit. With `rehearsal` (packed patches of the old levels) weights
    are tuned too, by low-rank changes and all of them, and what denoises the held-back patches best is kept; the drift
    is the loss on rehearsal patches, in the record per method. out/level.safetensors holds the vector, and low-rank
    changes, for `join`. Refused before anything is written: a name that exists, fewer than FEWEST patches, patches of
    another size or without tissue, and unlabelled ones where the model knows no class-free condition.
    """
    started, s = time.perf_counter(), settings or AdaptSettings()
    base, config = load_model(model)
    _check_new(base.schema, attribute, name)
    _check_patches(patches, config)
    _check_out(model, out)
    if rehearsal is not None:
        _check_rehearsal(rehearsal, base.schema, config)
    denoiser, patches = extended(base, attribute, name), patches.with_columns(**{attribute: name})
    condition_known(denoiser, config, patches.table)  # refuses what the model cannot be told
    unknown = unlabelled(patches, base.schema)
    total = s.vector_images * (2 if unknown else 1) + 2 * s.tune_images * (rehearsal is not None)
    task = _Task(config, attribute, s, _Count(progress, total))
    fitted, held = task.find_vector(denoiser, *_hold_back(patches, s.seed))
    made = {VECTOR: denoiser} if rehearsal is None else task.tuned(denoiser, fitted, rehearsal)
    held_loss = {kind: task.loss(found, held) for kind, found in made.items()}
    old_loss = {} if rehearsal is None else {kind: task.loss(found, rehearsal) for kind, found in made.items()}
    method = min(held_loss, key=lambda kind: held_loss[kind])
    record = {"attribute": attribute, "name": name, "base": config["hash"], "method": method}
    record |= {"held_back_loss": held_loss, "old_loss": old_loss, "settings": asdict(s)}
    record |= {"patches": len(patches), "unlabelled": unknown, "data": patches.digest()}
    record["combinations"] = counts(patches.table, denoiser.schema)
    record["seconds"] = round(time.perf_counter() - started, 1)
    _save(out, made[method], config, record)
    return Adapted(out / "model.safetensors", method, record)


def join(model: Path, levels: Sequence[Path], out: Path) -> Path:
    """Write out/model.safetensors: `model` with the levels that `adapt` learned for it, each from its small file; the
    low-rank changes of several are added up."""
    base, config = load_model(model)
    _check_out(model, out)
    denoiser, records = base, []
    for path in levels:
        tensors, found = load_tensors(path)
        record = found.get("adaptation")
        if record is None or "vector" not in tensors:
            raise MediError(
                f"{path}: holds no level; `medi adapt` writes level.safetensors unless it tunes all weights"
            )
        if record["base"] != config["hash"]:
            raise MediError(f"{path}: was learned for another model ({record['base']}) than {model} ({config['hash']})")
        _check_new(denoiser.schema, record["attribute"], record["name"])
        denoiser = extended(denoiser, record["attribute"], record["name"], tensors["vector"])
        changes = {key.removeprefix(CHANGE): value for key, value in tensors.items() if key.startswith(CHANGE)}
        denoiser = merged(with_changes(denoiser, changes)) if changes else denoiser
        records.append(record)
    _write(out / "model.safetensors", denoiser, config, records)
    return out / "model.safetensors"


def extended(denoiser: Denoiser, attribute: str, name: str, vector: Float[Tensor, " w"] | None = None) -> Denoiser:
    """A copy of a denoiser that knows one level more, the last; its vector is the mean of the others unless given."""
    schema = denoiser.schema
    more = {a.name: replace(a, levels=(*a.levels, name)) if a.name == attribute else a for a in schema.conditions}
    made = Denoiser(denoiser.settings, Schema(more["class"], tuple(more[a.name] for a in schema.attributes)))
    state, (key, count) = dict(denoiser.state_dict()), _place(schema, attribute)
    table = state[key]
    row = table[:count].mean(dim=0) if vector is None else vector
    made.load_state_dict(state | {key: torch.cat([table[:count], row[None], table[count:]])})
    return made.eval()


def level_vector(denoiser: Denoiser, attribute: str, name: str) -> Float[Tensor, " w"]:
    """A level's own vector."""
    key, _ = _place(denoiser.schema, attribute)
    return denoiser.state_dict()[key][denoiser.schema.attribute(attribute).levels.index(name)].clone()


def _place(schema: Schema, attribute: str) -> tuple[str, int]:
    """Where the vectors of an attribute's levels stand, and how many they are."""
    number = [a.name for a in schema.conditions].index(attribute)
    return f"conditioning.embeddings.{number}.table.weight", len(schema.attribute(attribute).levels)


# --- classes that are not known ---------------------------------------------------------------------------------------


def unlabelled(patches: Cohort, schema: Schema) -> int:
    """How many patches have no class."""
    return int((schema.classes.encode(patches.table["class"]) < 0).sum())


@torch.inference_mode()
def class_posteriors(
    denoiser: Denoiser, config: dict[str, Any], patches: Cohort, seed: int, batch: int = 128
) -> Float64[np.ndarray, "n k"]:
    """p(class | patch, its other conditions) under a flat prior, by how well each class denoises it.

    -log p(x | c) is the integral of |x - D(x + sigma noise, sigma, c)|^2 / sigma^2 over ln sigma, up to a constant
    (Kong et al., ICLR 2023, equation 10), on the levels LEVELS with the same noise for all classes. A class that is
    known counts as certain.
    """
    classes = denoiser.schema.classes.levels
    images = torch.from_numpy(to_float(patches.images[:]))
    ids = [f"{i} {j}" for i in range(len(patches)) for j in range(len(LEVELS))]
    noise = torch.from_numpy(seeds.noise(seed, ids, tuple(images.shape[1:])))
    sigma = torch.from_numpy(np.tile(LEVELS, len(patches)).astype(np.float32))
    clean = images.repeat_interleave(len(LEVELS), dim=0)
    noisy = clean + sigma[:, None, None, None] * noise
    cost = np.empty((len(patches), len(classes)))
    for k, name in enumerate(classes):
        z = condition_known(denoiser, config, patches.table.assign(**{"class": name})).repeat_interleave(
            len(LEVELS), dim=0
        )
        parts = [slice(start, start + batch) for start in range(0, len(noisy), batch)]
        made = torch.cat([denoiser(noisy[part], sigma[part], z[part]) for part in parts])
        error = (made - clean).square().sum(dim=(1, 2, 3)) / sigma**2
        cost[:, k] = error.double().reshape(len(patches), -1).mean(dim=1).numpy() * np.log(LEVELS[-1] / LEVELS[0])
    odds = np.exp(cost.min(axis=1, keepdims=True) - cost)
    known = denoiser.schema.classes.encode(patches.table["class"])
    certain = np.eye(len(classes))[np.maximum(known, 0)]
    return np.where(known[:, None] >= 0, certain, odds / odds.sum(axis=1, keepdims=True))


def soft_labels(patches: Cohort, classes: Sequence[str], posteriors: Float64[np.ndarray, "n k"]) -> Cohort:
    """Each patch COPIES times, its classes in proportion to their posteriors (largest remainders); pixels shared."""
    shares = posteriors * COPIES
    whole = np.floor(shares).astype(int)
    for row, share in zip(whole, shares):
        row[np.argsort(row - share, kind="stable")[: COPIES - row.sum()]] += 1
    index = np.repeat(np.arange(len(patches)), COPIES)
    labels = np.concatenate([np.repeat(np.array(classes, dtype=object), row) for row in whole])
    table = patches.table.iloc[index].reset_index(drop=True)
    ids = [f"{name}#{number}" for number, name in enumerate(table["sample_id"])]
    table = table.assign(sample_id=ids)
    table["class"] = labels
    return Cohort(table, patches.schema, patches.images.select(index), patches.info)


# --- learning ---------------------------------------------------------------------------------------------------------


class _Count:
    """Images done of all that an adaptation draws."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def add(self, images: int) -> None:
        self.done += images
        self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Task:
    """What all steps share: the checkpoint's config (its noise levels, its dropout), the settings, the progress."""

    config: dict[str, Any]
    attribute: str
    settings: AdaptSettings
    count: _Count

    def learn_vector(self, denoiser: Denoiser, patches: Cohort) -> None:
        """The new level's row of the table; no other row gets a gradient, so that AdamW without decay leaves them."""
        table = denoiser.get_submodule(_place(denoiser.schema, self.attribute)[0].removesuffix(".weight"))
        draw, loss = self._draws(denoiser, patches, dropout=0.0, balance=0.0), DenoisingLoss(denoiser)
        denoiser.requires_grad_(False)
        self._descend(
            list(table.requires_grad_(True).parameters()),
            lambda counters: loss(draw(counters)),
            self.settings.vector_images,
            self.settings.vector_rate,
        )
        denoiser.requires_grad_(True)

    def find_vector(self, denoiser: Denoiser, fitted: Cohort, held: Cohort) -> tuple[Cohort, Cohort]:
        """Learn the vector, and again from the classes that it suggests; returns both parts with these classes."""
        self.learn_vector(denoiser, fitted)
        if not (unlabelled(fitted, denoiser.schema) or unlabelled(held, denoiser.schema)):
            return fitted, held
        classes, seed = denoiser.schema.classes.levels, self.settings.seed
        odds = [class_posteriors(denoiser, self.config, part, seed) for part in (fitted, held)]
        fitted, held = (soft_labels(part, classes, found) for part, found in zip((fitted, held), odds))
        self.learn_vector(denoiser, fitted)
        return fitted, held

    def tuned(self, denoiser: Denoiser, fitted: Cohort, rehearsal: Cohort) -> dict[str, Denoiser]:
        """The denoiser as it is, a copy with low-rank changes, and one with all weights tuned."""
        new, old = (self._draws(denoiser, fitted, balance=0.0), self._draws(denoiser, rehearsal))
        small, whole = with_changes(denoiser), copy.deepcopy(denoiser)
        self._tune(small, weights_of(small), new, old, self.settings.low_rank_rate)
        self._tune(whole, list(whole.parameters()), new, old, self.settings.tune_rate)
        return {VECTOR: denoiser, LOW_RANK: small, TUNED: whole}

    def _tune(self, denoiser: Denoiser, weights: list[nn.Parameter], new: Draw, old: Draw, rate: float) -> None:
        """Half of each batch new patches, half old ones."""
        loss = DenoisingLoss(denoiser)

        def both(counters: Counters) -> Float[Tensor, ""]:
            half = len(counters) // 2
            return (loss(new(counters[:half])) + loss(old(counters[half:]))) / 2

        self._descend(weights, both, self.settings.tune_images, rate)

    @torch.inference_mode()
    def loss(self, denoiser: Denoiser, patches: Cohort) -> float:
        """The training loss on a few hundred draws, the same at every call."""
        draw, loss = self._draws(denoiser, patches, dropout=0.0), DenoisingLoss(denoiser)
        starts = range(0, JUDGED, 64)
        return float(np.mean([loss(draw(np.arange(start, start + 64) + 10**9)).item() for start in starts]))

    def _draws(self, denoiser: Denoiser, patches: Cohort, **changes: float) -> Draw:
        """Batches of the patches as the model's recipe draws them, with changes; a condition that is not known is
        dropped where training never met a row without it."""
        known: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in self.config.get("recipe", {}).items()
        }
        schema, recipe = denoiser.schema, Recipe(**(known | changes))
        batches = Batches(patches, schema.encode(patches.table), recipe, self.settings.seed)
        never = torch.tensor([not met_missing(self.config, a.name, a.missing) for a in schema.conditions])

        def draw(counters: Counters) -> Batch:
            batch = batches(counters, denoiser.device)
            unknown = torch.stack([_unknown(batch.codes[a.name], a) for a in schema.conditions], dim=1)
            return replace(batch, dropped=batch.dropped | (unknown & never.to(unknown.device)))

        return draw

    def _descend(self, weights: list[nn.Parameter], loss: Loss, images: int, rate: float) -> None:
        """AdamW with a rate that falls to 0."""
        optimizer, size = torch.optim.AdamW(weights, rate, weight_decay=0.0), self.settings.batch
        for start in range(0, images, size):
            counters = np.arange(start, min(start + size, images))
            loss(counters).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - start / images)
            optimizer.step()
            optimizer.zero_grad()
            self.count.add(len(counters))


def _unknown(codes: Tensor, attribute: Attribute) -> Tensor:
    return codes < 0 if attribute.kind == "categorical" else codes.isnan()


def _hold_back(patches: Cohort, seed: int) -> tuple[Cohort, Cohort]:
    """The patches to learn from, and those that decide: whole slides where there are several, else single patches."""
    table = patches.table
    units = table["slide"].where(table["slide"] != "", table["sample_id"])
    units = units if units.nunique() > 4 else table["sample_id"]
    names = sorted(set(units))
    order = seeds.generator("held back", seed).permutation(len(names))
    aside = {names[i] for i in order[: max(round(HELD_BACK * len(names)), 1)]}
    held = units.isin(aside).to_numpy()
    return patches.select(~held), patches.select(held)


# --- files and refusals -----------------------------------------------------------------------------------------------


def _check_new(schema: Schema, attribute: str, name: str) -> None:
    found = schema.attribute(attribute)
    if found.kind != "categorical":
        raise MediError(f"{attribute} is a number: any value can be given, there are no levels to add")
    if name in found.levels:
        raise MediError(f"{attribute} {name!r} exists; known levels: {', '.join(found.levels)}; choose another name")
    if name in found.missing or not name.strip():
        raise MediError(f"{attribute} {name!r} is a spelling of missing; choose another name")


def _check_patches(patches: Cohort, config: dict[str, Any]) -> None:
    check_scale(patches, config)
    if len(patches) < FEWEST:
        raise MediError(f"{len(patches)} patches are too few to learn a level from; give at least {FEWEST}")
    share = tissue_share(patches.images[:])
    if (share < TISSUE).any():
        worst = int(share.argmin())
        raise MediError(
            f"{patches.table['sample_id'].iloc[worst]}: {share[worst]:.0%} of its pixels are tissue "
            f"({int((share < TISSUE).sum())} of {len(patches)} patches under {TISSUE:.0%}); leave such patches out"
        )


def _check_rehearsal(rehearsal: Cohort, schema: Schema, config: dict[str, Any]) -> None:
    """Old patches, of levels that the model knows; a new one among them would have no vector yet."""
    check_installed()
    check_scale(rehearsal, config)
    schema.encode(rehearsal.table)


def _check_out(model: Path, out: Path) -> None:
    if (out / "model.safetensors").exists() or out.resolve() == model.resolve().parent:
        raise MediError(f"{out}: holds a model already; choose another folder for --out")


def _save(out: Path, denoiser: Denoiser, config: dict[str, Any], record: dict[str, Any]) -> None:
    """The small file first, unless all weights were tuned; then the checkpoint, plain weights in each case."""
    changes = changes_of(denoiser) if record["method"] == LOW_RANK else {}
    if record["method"] != TUNED:
        tensors = {"vector": level_vector(denoiser, record["attribute"], record["name"])}
        tensors |= {CHANGE + name: value for name, value in changes.items()}
        save_tensors(out / "level.safetensors", tensors, {"adaptation": record})
    _write(out / "model.safetensors", merged(denoiser) if changes else denoiser, config, [record])


def _write(path: Path, denoiser: Denoiser, config: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """`combinations` stays that of training: what `unknown` goes by; the new level's stand in its record."""
    plain = {key: value for key, value in config.items() if key != "hash"}
    save_model(path, denoiser, plain | {"adaptations": [*config.get("adaptations", []), *records]})
