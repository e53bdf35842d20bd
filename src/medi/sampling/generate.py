"""Generation: a plan becomes a synthetic cohort, batch by batch, by any number of processes, resumable (P3, P12)."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8

from medi.cohort.lost import lost_file
from medi.cohort.pixels import Pixels, write_store
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.devices import device
from medi.core.errors import MediError
from medi.core.files import content_hash, read_json, read_table, write_atomic, write_json, write_table
from medi.core.locks import locked, part_of
from medi.core.memory import keep_freed_memory
from medi.core.outputs import differences, in_words, refuse_images
from medi.core.processes import Call, Summed, side_by_side
from medi.core.progress import Advance, unheard
from medi.core.seals import UNSEALED, read_whole, sealed
from medi.core.sharding import WHOLE, Shard, process, share
from medi.core.tables import STAMPS
from medi.core.threads import cores
from medi.models.checkpoint import Checkpoint, load_model, same_scale
from medi.models.classifier import NoisyClassifier, load_classifier
from medi.models.denoiser import Denoiser
from medi.models.level_mix import as_text, resolve
from medi.models.missing_conditions import check_met
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.sampling.solvers import check_bounds

BATCHES_EACH = 4  # that a worker should have, to be worth its start
RENAMED = {"weaker_model": "autoguidance_model", "transferred_from": "translated_from"}  # in folders of version 0.1
Info = Mapping[str, object]


class Task(TypedDict):
    """task.json: what all workers make a part of."""

    model: Path
    worse: Path | None
    classifier: Path | None
    seed: int
    settings: SamplerSettings
    shard: Shard
    workers: int


def generate(
    model: Path,
    rows: pd.DataFrame,
    folder: Path,
    seed: int,
    settings: SamplerSettings,
    progress: Advance = unheard,
    shard: Shard = WHOLE,
    worse: Path | None = None,
    workers: int = 1,
    classifier: Path | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> Cohort | None:
    """The synthetic cohort of a plan's rows (`Plan.expand`), written to `folder`; goes on after an interruption.

    Part i of n (`shard`), and within it each process of torchrun or `accelerate launch`, makes every n-th batch. Who
    finds all batches there writes the cohort; the others return None. Rows carry the model's hash in `origin`, and
    the columns STAMPS. Unknown levels are refused before the first image, and so is a folder with images of another
    model, plan or setting. `worse` is the model that autoguidance draws away from, and `classifier` the
    one that guides, where settings.guidance asks for them. certificate: of the model's hold-out, where the model does
    not say it.
    `progress(images, total)` counts those of this part. `workers`: processes that share this part and the machine's
    cores.
    """
    rows, (denoiser, checkpoint) = as_text(rows), load_on_device(model)
    other, other_hash = _load_worse(worse, denoiser, checkpoint)
    judge = None if classifier is None else load_guide(classifier, denoiser, checkpoint.mpp)
    check_bounds(settings.solver, denoiser.space.is_bounded)
    settings.guidance.check(denoiser.schema, checkpoint.dropout, worse is not None, judge is not None)
    if judge is not None:
        settings.check_classifier(judge.range)
    _check(rows, denoiser.schema)
    check_met(str(model), checkpoint, rows)
    made_by = {"model": checkpoint.hash, "autoguidance_model": other_hash, "seed": seed, "sampler": asdict(settings)}
    if judge is not None:
        made_by["classifier"] = judge.hash
    made_by["plan"] = content_hash(rows.to_csv(index=False))
    made_by |= decoder_of(checkpoint)
    chunks = [rows.iloc[start : start + settings.batch] for start in range(0, len(rows), settings.batch)]
    work = partial(sample_images, denoiser, seed=seed, settings=settings, worse=other, classifier=judge)
    table = _table(rows, checkpoint.hash, seed, settings)
    made = Made(table, denoiser.schema, denoiser.settings.size, made_by, checkpoint.about(certificate))
    with locked(folder, part_of(shard)):
        if workers > 1:
            _claim(folder, made)
        if workers > 1 and not _finished(folder):
            task = Task(
                model=model,
                worse=worse,
                classifier=classifier,
                seed=seed,
                settings=settings,
                shard=shard,
                workers=workers,
            )
            _fill_by_workers(folder, rows, task, progress)
        return produce(folder, chunks, work, made, progress, shard)


def workers_worthwhile(images: int, batch: int) -> int:
    """How many processes of one thread make so many images soonest here: each takes seconds to start, and a GPU, or
    the cores of a process under torchrun, are taken already."""
    if torch.cuda.is_available() or process("WORLD_SIZE", 1) > 1:
        return 1
    return max(1, min(cores(), images // (batch * BATCHES_EACH)))


def _fill_by_workers(folder: Path, rows: pd.DataFrame, task: Task, progress: Advance) -> None:
    """Let worker k of w make part k of w of this shard, each on its share of the cores."""
    write_table(folder / "parts" / "rows.parquet", rows)
    write_json(folder / "parts" / "task.json", task)
    calls: dict[str, Call] = {f"{k}": (worker, (str(folder), f"{k}")) for k in range(task["workers"])}
    side_by_side(calls, Summed(progress))


def worker(folder: str, number: str, advance: Advance) -> None:
    """Worker: its part of the shard that task.json describes, unless others have made all before it began."""
    home = Path(folder)
    try:
        task, rows = read_json(home / "parts" / "task.json"), read_table(home / "parts" / "rows.parquet")
    except MediError:
        if _finished(home):
            return
        raise
    (i, n), k, worse, classifier = task["shard"], int(number), task["worse"], task.get("classifier")
    settings = SamplerSettings(**task["settings"])
    shard = (i + k * n, n * task["workers"])
    worse, classifier = worse and Path(worse), classifier and Path(classifier)
    model, seed = Path(task["model"]), task["seed"]
    generate(model, rows, home, seed, settings, advance, shard, worse, classifier=classifier)


@dataclass(frozen=True)
class Made:
    """What a cohort in the making will be: table, schema, pixels of its images, all that decides about them, and what
    else they say of their model."""

    table: pd.DataFrame
    schema: Schema
    size: int
    made_by: Info
    about: Info = field(default_factory=dict)


def produce(
    folder: Path,
    chunks: Sequence[pd.DataFrame],
    work: Callable[[pd.DataFrame], UInt8[np.ndarray, "n h w 3"]],
    made: Made,
    progress: Advance = unheard,
    shard: Shard = WHOLE,
) -> Cohort | None:
    """The cohort in `folder` whose images `work` makes from chunks of rows; goes on after an interruption (P12).

    Part i of n (`shard`), and within it each process, makes every n-th chunk. Who finds all chunks there writes the
    cohort; the others return None. A folder whose images were made by anything else than `made.made_by` is refused.
    """
    keep_freed_memory()
    Cohort(made.table, made.schema)  # refuses ids that occur twice before there is an image
    starts = np.cumsum([0, *map(len, chunks)])[:-1]
    paths = [folder / "parts" / f"{start:09d}.npy" for start in starts]
    mine = share(paths, shard)
    with locked(folder, part_of(shard)):
        _claim(folder, made)
        if not _finished(folder):
            todo = dict(zip(paths, chunks))
            _fill({path: todo[path] for path in mine}, work, progress)
        return _merge(folder, paths, made)


def load_on_device(path: Path) -> tuple[Denoiser, Checkpoint]:
    """`load_model` on this process's GPU, if there is one; its autoencoder is opened, where it needs one."""
    denoiser, checkpoint = load_model(path)
    denoiser.space.check()
    return denoiser.to(device()), checkpoint


def decoder_of(checkpoint: Checkpoint) -> dict[str, object]:
    """What a cohort says of the autoencoder that its images were decoded with; nothing of images of pixels."""
    return {"latents": dict(checkpoint.latents)} if checkpoint.latents else {}


def _load_worse(path: Path | None, guided: Denoiser, known: Checkpoint) -> tuple[Denoiser | None, str]:
    if path is None:
        return None, ""
    denoiser, checkpoint = load_on_device(path)
    if (denoiser.schema, denoiser.settings.size) != (guided.schema, guided.settings.size):
        raise MediError(f"{path}: knows other levels or another image size than the model that it should guide")
    if checkpoint.latents != known.latents:
        raise MediError(f"{path}: works on other latents than the model that it should guide; train both on the same")
    return denoiser, checkpoint.hash


def load_guide(path: Path, guided: Denoiser, mpp: float | None) -> NoisyClassifier:
    """The classifier that guides, on this process's device; MediError where it knows other classes or patches (`mpp`:
    micrometres per pixel of the model's) than the model."""
    found = load_classifier(path)
    if not guided.space.is_bounded:
        raise MediError(f"{path}: a classifier guides models of pixels; this model works on latents")
    if found.size != guided.settings.size or not set(found.classes.levels) <= set(guided.schema.classes.levels):
        raise MediError(
            f"{path}: knows patches of {found.size} px and the classes {', '.join(found.classes.levels)}; the model "
            f"has {guided.settings.size} px and {', '.join(guided.schema.classes.levels)}"
        )
    if not same_scale(found.mpp, mpp):
        raise MediError(
            f"{path}: knows patches of {found.mpp:g} micrometres per pixel, the model was trained at {mpp:g}"
        )
    found.network.to(device())
    return found


def _check(rows: pd.DataFrame, schema: Schema) -> None:
    """Refuse what cannot be sampled before the first image."""
    if not len(rows):
        raise MediError("the plan has no rows: nothing to sample")
    if lacking := [name for name in ("sample_id", "noise_id") if name not in rows.columns]:
        raise MediError(f"the plan lacks the columns {', '.join(lacking)}; `medi plan` writes them to rows.parquet")
    if clash := sorted({a.name for a in schema.conditions} & set(STAMPS)):
        raise MediError(f"the model's attributes {', '.join(clash)} are names of our own columns; rename them")
    schema.encode(resolve(rows, schema)[0])


def _claim(folder: Path, made: Made) -> None:
    """Say in the folder how its images are made; refuse one whose images are made otherwise, or are the user's."""
    refuse_images(folder)
    made_by, about = (json.loads(json.dumps(part)) for part in (made.made_by, made.about))
    record = folder / "parts" / "made_by.json"
    _begin_again_where_lost(folder, record, made_by, about)
    if _finished(folder):
        found = read_json(folder / "cohort.json")["info"]
    elif record.exists():
        found = read_json(record)
    else:
        found = read_json(write_json(record, made_by | about))
    found = _in_words_of_today(found)
    changes = [change for name, value in made_by.items() for change in differences(name, found.get(name), value)]
    if changed := in_words(changes, "{name} ({old}, now {new})"):
        raise MediError(
            f"{folder}: holds images of another {', '.join(changed)}; choose another folder or the old settings"
        )


def _begin_again_where_lost(folder: Path, record: Path, made_by: Info, about: Info) -> None:
    """A finished folder of the same images that has lost a file is no longer called finished: they are made again."""
    head = read_json(folder / "cohort.json") if _finished(folder) else {}
    info = _in_words_of_today(head.get("info", {}))
    if head and lost_file(folder, head) and all(info.get(name) == value for name, value in made_by.items()):
        write_json(record, {**made_by, **about})
        (folder / "cohort.json").unlink()


def _in_words_of_today(made_by: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a folder of version 0.1 says of its images, by the names of today."""
    found = {RENAMED.get(name, name): value for name, value in made_by.items()}
    guidance = found.get("sampler", {}).get("guidance", {})
    if "weak" in guidance:
        guidance["autoguidance"] = guidance.pop("weak")
    if guidance:
        guidance.setdefault("classifier", 0.0)
        guidance.setdefault("candidates", 1)
    return found


def _finished(folder: Path) -> bool:
    return (folder / "cohort.json").exists()


def _fill(
    chunks: dict[Path, pd.DataFrame],
    work: Callable[[pd.DataFrame], UInt8[np.ndarray, "n h w 3"]],
    progress: Advance,
) -> None:
    total, done = sum(map(len, chunks.values())), 0
    for path, rows in chunks.items():
        if not path.exists():
            write_atomic(path, partial(_save_array, work(rows)))
        done += len(rows)
        progress(done, total)


def _merge(folder: Path, paths: Sequence[Path], made: Made) -> Cohort | None:
    """The cohort, once all batches are there. Several processes may come here at once: all write the same bytes, and
    batches are deleted only when cohort.json, which is written last, is there."""
    if not _finished(folder):
        if not all(path.exists() for path in paths):
            return None
        try:
            write_store(folder / "pixels.npy", map(_load_array, paths), len(made.table), made.size)
            info = read_json(folder / "parts" / "made_by.json")
            Cohort(made.table, made.schema, Pixels.open(folder / "pixels.npy"), info).save(folder)
        except MediError:
            if not _finished(folder):
                raise
    shutil.rmtree(folder / "parts", ignore_errors=True)
    found = Cohort.load(folder)
    return replace(found, table=found.table.rename(columns=RENAMED))


def _table(rows: pd.DataFrame, model: str, seed: int, settings: SamplerSettings) -> pd.DataFrame:
    made_by = dict(zip(STAMPS, (str(settings), str(settings.guidance), str(seed))))
    return rows.assign(image="", patient="", slide="", split="", origin=model, **made_by)


def _save_array(array: UInt8[np.ndarray, "n h w 3"], path: Path) -> None:
    """A batch as .npy, with its checksum behind the numbers."""
    file = BytesIO()
    np.save(file, array)
    path.write_bytes(sealed(file.getvalue() + UNSEALED.encode()))


def _load_array(path: Path) -> UInt8[np.ndarray, "n h w 3"]:
    return np.load(BytesIO(read_whole(path, "delete it and run the same command again")))
