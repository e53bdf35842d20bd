"""A new level of an attribute from a few patches, labelled or not: a hospital that training never saw.

First its vector alone, all weights as they are (textual inversion: Gal et al., ICLR 2023, section 4). Where the
class of patches is not known, the model says how likely each class is, and the vector is learned again from these. With
old patches at hand the weights are then tuned lightly on new and old ones (rehearsal), by low-rank changes and all of
them; a held-back part of the new patches decides which of the three is kept.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from medi.cohort.combinations import counts
from medi.cohort.optics import tissue_share
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.locks import holding
from medi.core.memory import keep_freed_memory
from medi.core.progress import Advance, Tally, unheard
from medi.models.checkpoint import Checkpoint, check_scale, load_model, load_tensors, save_model, save_tensors
from medi.models.denoiser import Denoiser
from medi.models.missing_conditions import condition_known
from medi.training.adaptation.classes import unlabelled
from medi.training.adaptation.learning import LOW_RANK, TUNED, VECTOR, AdaptSettings, Task, hold_back
from medi.training.adaptation.levels import extended, level_vector
from medi.training.adaptation.low_rank import changes_of, check_installed, merged, with_changes

FEWEST = 5  # patches
TISSUE = 0.1  # least share of a patch's pixels
CHANGE = "change."  # prefix of low-rank changes in a level's file


class Adaptation(TypedDict):
    """How a level was learned, as it lies in the checkpoint; losses per method, seconds of the whole."""

    attribute: str
    name: str
    base: str
    method: str
    held_back_loss: dict[str, float]
    old_loss: dict[str, float]
    settings: Mapping[str, Any]
    patches: int
    unlabelled: int
    data: str
    combinations: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Adapted:
    """The model that knows the new level, and how it came to; `method` is VECTOR, LOW_RANK or TUNED."""

    path: Path
    method: str
    record: Adaptation


@holding("out")
def adapt(
    model: Path,
    patches: Cohort,
    attribute: str,
    name: str,
    out: Path,
    settings: AdaptSettings | None = None,
    rehearsal: Cohort | None = None,
    progress: Advance = unheard,
) -> Adapted:
    """Write out/model.safetensors, which knows `name` as a further level of `attribute`, learned from `patches`.

    Their conditions are columns of the table, "" where not known; the column `attribute` need not be there. With the
    vector alone old levels stay as they were, bit for bit. With `rehearsal` (packed patches of the old levels) weights
    are tuned too, by low-rank changes and all of them, and what denoises the held-back patches best is kept; the drift
    is the loss on rehearsal patches, in the record per method. out/level.safetensors holds the vector, and low-rank
    changes, for `join`. Refused before anything is written: a name that exists, fewer than FEWEST patches, patches of
    another size or without tissue, and unlabelled ones where the model knows no class-free condition.
    """
    keep_freed_memory()
    started, s = time.perf_counter(), settings or AdaptSettings()
    base, checkpoint = load_model(model)
    _check_new(base.schema, attribute, name)
    _check_patches(patches, checkpoint)
    _check_out(model, out)
    if rehearsal is not None:
        _check_rehearsal(rehearsal, base.schema, checkpoint)
    denoiser, patches = extended(base, attribute, name), patches.with_columns(**{attribute: name})
    condition_known(denoiser, checkpoint, patches.table)  # refuses what the model cannot be told
    unknown = unlabelled(patches, base.schema)
    total = s.vector_images * (2 if unknown else 1) + 2 * s.tune_images * (rehearsal is not None)
    task = Task(checkpoint, attribute, s, Tally(progress, total))
    fitted, held = task.find_vector(denoiser, *hold_back(patches, s.seed))
    made = {VECTOR: denoiser} if rehearsal is None else task.tuned(denoiser, fitted, rehearsal)
    held_loss = {kind: task.loss(found, held) for kind, found in made.items()}
    old_loss = {} if rehearsal is None else {kind: task.loss(found, rehearsal) for kind, found in made.items()}
    method = min(held_loss, key=lambda kind: held_loss[kind])
    record: Adaptation = {
        "attribute": attribute,
        "name": name,
        "base": checkpoint.hash,
        "method": method,
        "held_back_loss": held_loss,
        "old_loss": old_loss,
        "settings": asdict(s),
        "patches": len(patches),
        "unlabelled": unknown,
        "data": patches.digest(),
        "combinations": counts(patches.table, denoiser.schema),
        "seconds": round(time.perf_counter() - started, 1),
    }
    _save(out, made[method], checkpoint, record)
    return Adapted(out / "model.safetensors", method, record)


@holding("out")
def join(model: Path, levels: Sequence[Path], out: Path) -> Path:
    """Write out/model.safetensors: `model` with the levels that `adapt` learned for it, each from its small file; the
    low-rank changes of several are added up."""
    base, checkpoint = load_model(model)
    _check_out(model, out)
    denoiser, records = base, []
    for path in levels:
        tensors, found = load_tensors(path)
        record = found.get("adaptation")
        if record is None or "vector" not in tensors:
            raise MediError(
                f"{path}: holds no level; `medi adapt` writes level.safetensors unless it tunes all weights"
            )
        if record["base"] != checkpoint.hash:
            raise MediError(f"{path}: was learned for another model than {model}; name that one, or adapt {model}")
        _check_new(denoiser.schema, record["attribute"], record["name"])
        denoiser = extended(denoiser, record["attribute"], record["name"], tensors["vector"])
        changes = {key.removeprefix(CHANGE): value for key, value in tensors.items() if key.startswith(CHANGE)}
        denoiser = merged(with_changes(denoiser, changes)) if changes else denoiser
        records.append(record)
    _write(out / "model.safetensors", denoiser, checkpoint, records)
    return out / "model.safetensors"


def _check_new(schema: Schema, attribute: str, name: str) -> None:
    found = schema.attribute(attribute)
    if found.kind != "categorical":
        raise MediError(f"{attribute} is a number: any value can be given, there are no levels to add")
    if name in found.levels:
        raise MediError(f"{attribute} {name!r} exists; known levels: {', '.join(found.levels)}; choose another name")
    if name in found.missing or not name.strip():
        raise MediError(f"{attribute} {name!r} is a spelling of missing; choose another name")


def _check_patches(patches: Cohort, checkpoint: Checkpoint) -> None:
    check_scale(patches, checkpoint)
    if len(patches) < FEWEST:
        raise MediError(f"{len(patches)} patches are too few to learn a level from; give at least {FEWEST}")
    share = tissue_share(patches.images[:])
    if (share < TISSUE).any():
        worst = int(share.argmin())
        raise MediError(
            f"{patches.table['sample_id'].iloc[worst]}: {share[worst]:.0%} of its pixels are tissue "
            f"({int((share < TISSUE).sum())} of {len(patches)} patches under {TISSUE:.0%}); leave such patches out"
        )


def _check_rehearsal(rehearsal: Cohort, schema: Schema, checkpoint: Checkpoint) -> None:
    """Old patches, of levels that the model knows; a new one among them would have no vector yet."""
    check_installed()
    check_scale(rehearsal, checkpoint)
    schema.encode(rehearsal.table)


def _check_out(model: Path, out: Path) -> None:
    if (out / "model.safetensors").exists() or out.resolve() == model.resolve().parent:
        raise MediError(f"{out}: holds a model already; choose another folder for --out")


def _save(out: Path, denoiser: Denoiser, checkpoint: Checkpoint, record: Adaptation) -> None:
    """The small file first, unless all weights were tuned; then the checkpoint, plain weights in each case."""
    changes = changes_of(denoiser) if record["method"] == LOW_RANK else {}
    if record["method"] != TUNED:
        tensors = {"vector": level_vector(denoiser, record["attribute"], record["name"])}
        tensors |= {CHANGE + name: value for name, value in changes.items()}
        save_tensors(out / "level.safetensors", tensors, {"adaptation": record})
    _write(out / "model.safetensors", merged(denoiser) if changes else denoiser, checkpoint, [record])


def _write(path: Path, denoiser: Denoiser, checkpoint: Checkpoint, records: Sequence[Adaptation]) -> None:
    """`combinations` stays that of training, which says what was never missing; the new level's stand in its record."""
    known = replace(checkpoint, adaptations=(*checkpoint.adaptations, *records))
    save_model(path, denoiser, known)
