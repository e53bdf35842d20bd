"""Training from the first image to the finished model, resumable bitwise (P4); what it writes survives a kill (P12)."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from medi.cohort.combinations import counts
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.devices import compile_failed
from medi.core.errors import MediError
from medi.core.files import write_atomic
from medi.core.locks import holding
from medi.core.memory import keep_freed_memory
from medi.core.outputs import differences, in_words, plain
from medi.core.progress import Advance, unheard
from medi.core.sharding import process
from medi.core.stopping import Signal, Stopped, noted
from medi.models.checkpoint import Checkpoint, load_tensors, model_hash, save_model, save_tensors
from medi.models.first_weights import first_weights_hash
from medi.models.network import NetworkSettings
from medi.training.latents import prepared
from medi.training.log import LOG, SPEEDS, LogRow, check_collapse, check_finite, utilisation, write_log
from medi.training.presets import PRESETS
from medi.training.recipe import Recipe
from medi.training.sheet import Draw, sheet
from medi.training.trainer import Trainer

MODEL, EARLY, STATE = "model.safetensors", "early.safetensors", "state.safetensors"  # in a model's folder
SAVE_SECONDS = 300.0  # between two states at most
ASKED_EVERY = 8  # updates after which several processes agree whether to stop
ANY_TIME = ("shard_model",)  # settings of a recipe with which a training may go on or not
COMPARED = ("recipe", "seed", "data", "info", "network", "combinations", "init", "latents")  # entries of a header


@holding("folder")
def train(
    cohort: Cohort,
    folder: Path,
    settings: NetworkSettings,
    recipe: Recipe,
    schema: Schema,
    seed: int,
    validation: Cohort | None = None,
    progress: Advance = unheard,
    draw: Draw | None = None,
) -> Path:
    """Train a denoiser conditioned on `schema` (the class alone: `cohort.schema.restrict([])`) on all of `cohort`.

    Writes folder/model.safetensors (averaged weights, with vocabularies and recipe in its header), log.jsonl (the same
    bytes whenever the training is the same), speed.jsonl, state.safetensors from which it goes on, the last
    `recipe.keep` averages in snapshots/ and that of `recipe.early_average` images in early.safetensors. The same call
    goes on where an interrupted one stopped, and does nothing where it ended; other settings or data are refused. With
    more images than a finished training had, all else alike, it is continued for longer: the learning rate is from
    there on that of a training of so many images, weights, optimisers, averages, log and the order of images go on.
    `progress(images, total)` is called after every update. The state is saved when the recipe says so, every
    SAVE_SECONDS, and at Ctrl-C and SIGTERM, which end in `Stopped`.
    `draw` makes the images on sheets, where the recipe wants any.
    """
    _check(cohort, settings, recipe, draw)
    keep_freed_memory()
    ground = prepared(cohort, validation, recipe, folder)
    settings = ground.network(settings)
    checkpoint = Checkpoint(
        settings,
        schema,
        recipe=asdict(recipe),
        seed=seed,
        data=cohort.digest(),
        info=cohort.info,
        combinations=counts(cohort.table, cohort.schema),
        mpp=cohort.mpp,
        init=first_weights_hash(recipe.init),
        latents=ground.entry,
    )
    model = folder / MODEL
    base = _base(folder, checkpoint)
    if model.exists() and not base:
        _mend_log(folder)
        return model
    checkpoint = replace(checkpoint, base=base)
    trainer = Trainer(cohort, settings, recipe, schema, seed, ground)
    training = _Training(trainer, folder, checkpoint, seed, validation, draw)
    training.resume()
    with noted() as training.signal:
        while trainer.images < recipe.images:
            training.advance(progress)
    averaged = trainer.averaged()
    if trainer.accelerator.is_main_process:
        save_model(model, averaged, replace(checkpoint, images=trainer.images))
    trainer.accelerator.wait_for_everyone()
    if training.signal.number is not None:
        raise Stopped([(trainer.images, recipe.images)], training.signal.number)
    return model


def _mend_log(folder: Path) -> None:
    """Write the log of a finished training again where it is lost and the state, which holds it, is there."""
    if (folder / STATE).exists() and not ((folder / LOG).exists() and (folder / SPEEDS).exists()):
        write_log(folder, [LogRow(**row) for row in load_tensors(folder / STATE)[1]["log"]])


def check_size(cohort: Cohort, settings: NetworkSettings) -> None:
    """Refuse patches of another size than the network's, naming the presets that take them."""
    if (size := cohort.images.size) != settings.size:
        fitting = [name for name, preset in PRESETS.items() if preset.network.size == size]
        other = f", or take the preset {' or '.join(fitting)}" if fitting else ""
        raise MediError(f"patches have {size} px, the network wants {settings.size}; pack them to that size{other}")


def _check(cohort: Cohort, settings: NetworkSettings, recipe: Recipe, draw: Draw | None) -> None:
    """Refuse what cannot be trained here."""
    if not len(cohort):
        raise MediError("no patch to train on: the cohort that was given is empty")
    check_size(cohort, settings)
    for name in recipe.dropout if isinstance(recipe.dropout, dict) else ():
        cohort.schema.attribute(name)  # refuses what is none, also for CLS, which is trained by the same recipe
    if recipe.tensorboard and find_spec("tensorboard") is None:
        raise MediError("TensorBoard is not installed: pip install 'medi-histo[track]', or leave it out")
    if recipe.shard_model and process("WORLD_SIZE", 1) < 2:
        raise MediError(
            "shard_model cuts a network among several processes, and this is one; start it with "
            "torchrun --nproc_per_node N, or leave shard_model out"
        )
    if recipe.sheets and draw is None:
        raise MediError("the recipe wants sheets of samples: give a function that draws them, or set sheets to false")
    _check_shares(recipe, process("WORLD_SIZE", 1))


def _check_shares(recipe: Recipe, processes: int) -> None:
    """Refuse updates that processes would share in unequally many passes, for each pass waits for all."""
    at_once = recipe.micro_batch or recipe.batch
    for size in (recipe.batch, recipe.images % recipe.batch or recipe.batch):
        passes = {-(-share // at_once) for share in (size // processes, -(-size // processes))}
        if len(passes) > 1:
            raise MediError(
                f"{processes} processes cannot share an update of {size} images in parts of {at_once} evenly; choose "
                f"images and batch as multiples of {processes}, or fewer processes"
            )


@dataclass
class _Open:
    """The row of the log that is not yet written: since which image, the sum of their losses (still on the device), and
    the time that took, of it the seconds before this process."""

    since: int
    total: Float[Tensor, ""]
    seconds: float
    started: float

    @classmethod
    def begun(cls, trainer: Trainer, since: int | None = None, total: float = 0.0, seconds: float = 0.0) -> "_Open":
        """A row that begins where the trainer is, or one that another process began."""
        first = trainer.images if since is None else since
        return cls(first, torch.tensor(total, device=trainer.denoiser.device), seconds, time.perf_counter())

    @property
    def seconds_now(self) -> float:
        return self.seconds + time.perf_counter() - self.started

    def state(self) -> dict[str, int | float]:
        """As `begun` takes it; a float32 survives as a float."""
        return {"since": self.since, "total": float(self.total), "seconds": round(self.seconds_now, 3)}


class _Training:
    """A training on its way: what its folder holds, the log so far, and when its last row was written."""

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        checkpoint: Checkpoint,
        seed: int,
        validation: Cohort | None,
        draw: Draw | None,
    ) -> None:
        self.trainer, self.folder, self.checkpoint = trainer, folder, checkpoint
        self.seed, self.validation, self.draw = seed, validation, draw
        self.gflop, self.log = trainer.gflop_per_image(), list[LogRow]()
        self.signal, self.open, self.saved = Signal(), _Open.begun(trainer), time.perf_counter()

    def resume(self) -> None:
        """Bring the trainer to the saved state, if there is one of these very settings."""
        path = self.folder / STATE
        if path.exists():
            state, saved = load_tensors(path)
            _check_same(path, saved, _of_length(self.checkpoint, saved) if self.checkpoint.base else self.checkpoint)
            self.trainer.load(state, saved["images"])
            self.log = [LogRow(**row) for row in saved["log"]]
            self.open = _Open.begun(self.trainer, **saved.get("open", {}))

    def advance(self, progress: Advance) -> None:
        """Train until the next row of the log is due, and keep all that is wanted of it; a signal ends it before."""
        trainer, row = self.trainer, self.open
        row.started = time.perf_counter()
        while not self._is_due():
            before = trainer.images
            row.total = row.total + _step(trainer) * (trainer.images - before)
            progress(trainer.images, trainer.recipe.images)
            if not self._is_due():
                self._save_if(time.perf_counter() - self.saved > SAVE_SECONDS)
        images = trainer.images - row.since
        loss, rate = float(row.total) / images, images / row.seconds_now
        self.open = _Open.begun(trainer)
        self._note(loss, rate, images)
        self._keep_average()  # first: a resumed training does not come by here again
        self._show()
        self._save()
        if not self._is_done():
            self._save_if(False)

    def _is_due(self) -> bool:
        """Whether the open row of the log is complete."""
        trainer = self.trainer
        at_end = trainer.images % trainer.recipe.save_every == 0 or self._is_done()
        return at_end and trainer.images > self.open.since

    def _save_if(self, is_time: bool) -> None:
        """Save what is there where it is time to, or where a signal came; that one ends the training."""
        trainer = self.trainer
        stops, is_time = self._agreed(self.signal.number is not None, is_time)
        if stops or is_time:
            check_finite(float(self.open.total), trainer.is_finite(), trainer.images)
            self._save()
        if stops:
            raise Stopped([(trainer.images, trainer.recipe.images)], self.signal.number or SIGTERM)

    def _agreed(self, *wishes: bool) -> Sequence[bool]:
        """What is wished here, or at another of the processes that train together: all do it after one update."""
        trainer = self.trainer
        if trainer.accelerator.num_processes == 1:
            return wishes
        if trainer.images // trainer.recipe.batch % ASKED_EVERY:
            return [False] * len(wishes)
        wished = torch.tensor(wishes, dtype=torch.float32, device=trainer.accelerator.device)
        return [count > 0 for count in trainer.accelerator.reduce(wished, "sum").tolist()]

    def _is_done(self) -> bool:
        return self.trainer.images >= self.trainer.recipe.images

    def _note(self, loss: float, rate: float, images: int) -> None:
        """A row of the log on the last so many images; a training that went wrong ends here."""
        trainer = self.trainer
        check_finite(loss, trainer.is_finite(), trainer.images)
        use = utilisation(rate * self.gflop, trainer.accelerator.num_processes)
        validation = trainer.validation_loss(self.validation) if self.validation and len(self.validation) else None
        row = LogRow(trainer.images, loss, self.gflop, rate, use, validation)
        check_collapse([*self.log, row], images)
        self.log.append(row)

    def _keep_average(self) -> None:
        """The averaged weights as they are now, as a model of its own, where the recipe wants them: early, and the last
        `recipe.keep`."""
        trainer, recipe = self.trainer, self.trainer.recipe
        early = trainer.images == recipe.early_average
        if not (recipe.keep or early):
            return
        averaged, described = trainer.averaged(), replace(self.checkpoint, images=trainer.images)
        if not trainer.accelerator.is_main_process:
            return
        if early:
            save_model(self.folder / EARLY, averaged, described)
        if recipe.keep:
            snapshots = self.folder / "snapshots"
            save_model(snapshots / f"{trainer.images:012d}.safetensors", averaged, described)
            for path in sorted(snapshots.glob("*.safetensors"))[: -recipe.keep]:
                path.unlink()

    def _save(self) -> None:
        state = self.trainer.state()
        if self.trainer.accelerator.is_main_process:
            reached = {"images": self.trainer.images, "log": [asdict(row) for row in self.log]}
            reached |= {"open": self.open.state()}
            save_tensors(self.folder / STATE, state, {**self.checkpoint.config(), **reached})
            write_log(self.folder, self.log)
        self.saved = time.perf_counter()

    def _show(self) -> None:
        """What a person watches while it trains: a sheet of samples, TensorBoard."""
        trainer, is_first = self.trainer, self.trainer.accelerator.is_main_process
        averaged = trainer.averaged() if trainer.recipe.sheets else None
        if is_first and averaged is not None and self.draw is not None:
            image = Image.fromarray(sheet(averaged, self.seed, self.draw))
            write_atomic(self.folder / "sheets" / f"{trainer.images:012d}.png", lambda path: image.save(path, "PNG"))
        if is_first and trainer.recipe.tensorboard:
            _to_tensorboard(self.folder / "tensorboard", self.log[-1])


def _to_tensorboard(folder: Path, row: LogRow) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for name, value in asdict(row).items():
            if value is not None and name != "images":
                writer.add_scalar(name, value, row.images)


def _step(trainer: Trainer) -> Float[Tensor, ""]:
    try:
        return trainer.step()
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a plain RuntimeError on a CPU
        recipe = trainer.recipe
        is_full = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not is_full and recipe.compile:
            raise compile_failed(error) from error
        if not is_full:
            raise
        raise MediError(
            f"{recipe.micro_batch or recipe.batch} images at once do not fit into memory; lower training.micro_batch "
            "(the update stays the same) and run again"
        ) from error


def _base(folder: Path, checkpoint: Checkpoint) -> str:
    """The hash of a finished model that is to be trained for longer; "" where there is none, or one of these images."""
    path = folder / MODEL
    if not path.exists():
        return ""
    saved = load_tensors(path)[1]
    shorter = _of_length(checkpoint, saved)
    if not shorter.recipe["images"] < checkpoint.recipe["images"]:
        _check_same(path, saved, checkpoint)
        return ""
    _check_same(path, saved, shorter)
    if not (folder / STATE).exists():
        raise MediError(
            f"{path}: was trained on {shorter.recipe['images']:,} images, and its {STATE} is gone, so that it cannot "
            "be continued; use a new folder"
        )
    return model_hash(path)


def _of_length(checkpoint: Checkpoint, saved: Mapping[str, Any]) -> Checkpoint:
    """The same, of as many images as a file was or is trained on."""
    images = saved.get("recipe", {}).get("images", checkpoint.recipe["images"])
    return replace(checkpoint, recipe={**checkpoint.recipe, "images": images})


def _check_same(path: Path, saved: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse what was trained otherwise; what an older file does not say is taken for the same, or for the default of a
    setting that is newer than the file."""
    expected = _comparable(checkpoint.config())
    defaults = _comparable({"recipe": asdict(Recipe()), "network": asdict(NetworkSettings())})
    known = {key: value for key, value in _comparable(saved).items() if key in expected}
    found = {key: defaults[key] | value if key in defaults else value for key, value in known.items()}
    changes = [change for key, value in found.items() for change in differences(key, value, expected[key])]
    if any(name == "data" for name, _, _ in changes):  # says it all: where another cohort is from is no setting
        changes = [change for change in changes if change[0].split(".")[0] not in ("info", "combinations")]
    if changed := in_words(changes, "{name} ({old}, now {new})"):
        raise MediError(f"{path}: was trained with another {', '.join(changed)}; use a new folder or the old settings")


def _comparable(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entries of a header that make a training another one."""
    found = {key: header[key] for key in (*COMPARED, "conditions") if key in header}
    if "recipe" in found:
        found["recipe"] = {name: value for name, value in found["recipe"].items() if name not in ANY_TIME}
    if "schema" in header:
        schema = Schema.from_dict(header["schema"])
        found["conditions"] = {a.name: a.levels for a in schema.conditions}
    return plain(found)
