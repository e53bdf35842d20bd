"""Train a model, load it, sample from it, export it: what the command line and a study call, in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medi.cohort.holdout import has_split
from medi.cohort.plan import Plan, images
from medi.cohort.readers.rows import read_rows
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import read_table
from medi.core.progress import Advance, Show, Silent, unheard
from medi.core.sharding import WHOLE, Shard
from medi.core.showing import Shown
from medi.evaluation.classify.probes import groups
from medi.evaluation.statistics import cluster_bootstrap
from medi.models.checkpoint import Checkpoint, load_checkpoint
from medi.models.denoiser import Denoiser
from medi.sampling.generate import generate, load_on_device, workers_worthwhile
from medi.sampling.interaction import SIGMAS, interaction
from medi.sampling.sampler import SamplerSettings, draw, sample_images, sampler_settings
from medi.training.latents import prepared
from medi.training.loop import MODEL, check_size
from medi.training.loop import train as train_in
from medi.training.presets import Preset, preset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Plan | pd.DataFrame | str | Path  # a plan, a table of rows or of counts, or where one of them lies
SHOWN = 8  # classes and levels in a figure


@dataclass(frozen=True)
class Model(Shown):
    """A trained model: the file that holds it, and what the file says of itself.

    >>> import medi
    >>> tissue = medi.phantom(patches=100, seed=0).with_columns(split="train")
    >>> model = medi.train(tissue, preset="tiny", out="tiny-model", seed=0)
    >>> print(model.title)
    Model of 32 px patches, conditions: class (4), site (8), group (3); 256 training images drawn
    >>> model.sample(tissue.plan(to=2).expand(0).head(4), out="tiny-samples", steps=2).images[:].shape
    (4, 32, 32, 3)
    """

    path: Path
    checkpoint: Checkpoint

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """A model from its folder, or from model.safetensors itself.

        MediError where there is none, where the file is damaged or newer, or needs a network that is not registered.

        >>> import medi
        >>> medi.Model.load("nowhere")
        Traceback (most recent call last):
        medi.core.errors.MediError: nowhere: no such checkpoint; train the model first
        """
        file = Path(path) / MODEL if Path(path).is_dir() else Path(path)
        return cls(file, load_checkpoint(file))

    @property
    def schema(self) -> Schema:
        """The class and the attributes that images are conditioned on."""
        return self.checkpoint.schema

    @property
    def size(self) -> int:
        """Pixels along a side of its patches."""
        return self.checkpoint.network.size

    @cached_property
    def denoiser(self) -> Denoiser:
        """D(x, sigma, z) with the averaged weights, on this machine's GPU where there is one."""
        return load_on_device(self.path)[0]

    def sample(
        self,
        plan: Rows,
        out: str | Path = "medi-samples",
        seed: int = 0,
        worse: "Model | str | Path | None" = None,
        workers: int | None = None,
        progress: Show | None = None,
        classifier: str | Path | None = None,
        **settings: Any,
    ) -> Cohort:
        """The synthetic cohort of a plan, kept in the folder `out`; the same call goes on where it stopped (P12).

        plan: a `Plan`, a table with a row per image (`Plan.expand`) or with counts `n`, or the folder or file of one.
        seed: image i depends on it and on noise_id i alone (P3). settings: of `SamplerSettings`, such as steps=20 or
        guidance={"class": 1.5}. worse: the model that autoguidance draws away from, its weight in
        guidance={"autoguidance": 0.5}. classifier: the folder or file of the one that guides
        (`medi.train_classifier`), its weight in guidance={"classifier": 2}; with {"candidates": 2} it keeps of two
        images the one whose class it is surest of. workers: processes; by default one a core of a CPU where that pays.
        progress: shows a bar. Returns uint8 images [n, h, w, 3] with their table; `origin` is this model's hash.
        MediError for unknown levels or settings, and where `out` holds images that were made otherwise.
        Source: Lu et al., "DPM-Solver++", 2022 (the default solver); Ho and Salimans, 2022, equation 6 (guidance);
        Dhariwal and Nichol, NeurIPS 2021, section 4.1 (guidance by a classifier); Razavi et al., NeurIPS 2019
        (candidates).

        >>> import medi
        >>> tissue = medi.phantom(patches=100, seed=0)
        >>> model = medi.train(tissue, preset="tiny", out="tiny-model", seed=0)
        >>> asked = tissue.table.head(2).assign(noise_id=["a", "b"])
        >>> len(model.sample(asked, out="tiny-two", steps=2))
        2
        """
        chosen, other = sampler_settings(**settings), None if worse is None else _as_model(worse).path
        with (progress or Silent()).bars("sampling") as (advance,):
            guide = None if classifier is None else Path(classifier)
            made = sample_part(self.path, plan, Path(out), chosen, seed, other, WHOLE, workers, advance, guide)
        if made is None:
            raise MediError(f"{out}: other processes are still sampling; load the cohort when all are done")
        return made

    def export(
        self,
        out: str | Path = "medi-pipeline",
        class_name: str = "class_",
        data_licence: str = "",
        untested: bool = False,
    ) -> Path:
        """A folder that diffusers loads where medi is not installed, with a model card.

        class_name: the keyword of the class in the pipeline; data_licence: of the training data, for the card.
        The card gives the share of images that repeat training patches, by the tables of `medi.fidelity` or of a run
        that lie beside the model. untested: export it where there are none.
        MediError where `out` holds something else, the network is not medi's own, or the model was not tested.

        >>> import medi
        >>> model = medi.train(medi.phantom(patches=100, seed=0), preset="tiny", out="tiny-model", seed=0)
        >>> model.export("tiny-pipeline", class_name="tissue", untested=True).name
        'tiny-pipeline'
        """
        from medi.export.export import export

        return export(self.path, Path(out), class_name, data_licence, untested)

    def interaction(
        self,
        patches: Cohort | str | Path,
        over: Sequence[str] = (),
        sigmas: Sequence[float] = SIGMAS,
        seed: int = 0,
        draws: int = 1000,
    ) -> pd.DataFrame:
        """Where the model fails to compose: the interaction energy of real patches under noise, by noise level.

        0: what class and attributes do to D(x, sigma, z) adds up; 1: nothing of it does (`medi.sampling.interaction`).
        over: the class and the columns by which a combination is "seen" or "unseen" in training, by default the class
        and the first attribute. A row per split and sigma: energy, low and high (95 %, resampled patients), n patches.
        MediError where the model was trained without conditioning dropout, or its file does not count combinations.

        >>> import medi
        >>> tissue = medi.phantom(patches=100, seed=0)
        >>> model = medi.train(tissue, preset="tiny", out="tiny-dropped", seed=0, dropout=0.1)
        >>> list(model.interaction(tissue, sigmas=(0.5,), draws=10))
        ['split', 'sigma', 'energy', 'low', 'high', 'n']
        """
        packed = _packed(patches)
        found = interaction(self.denoiser, self.checkpoint, packed, sigmas, seed)
        patients = groups(packed.table).to_numpy()
        split = self._splits(packed, tuple(over))
        rows = []
        for (part, sigma), group in found.groupby([split.iloc[found["row"]].to_numpy(), found["sigma"]]):
            values = (group[name].to_numpy(dtype=np.float64) for name in ("joint", "whole"))
            energy = cluster_bootstrap(np.divide, patients[group["row"]], *values, draws=draws, key=("interaction",))
            rows.append((part, sigma, energy.value, energy.low, energy.high, len(group)))
        return pd.DataFrame(rows, columns=["split", "sigma", "energy", "low", "high", "n"])

    def _splits(self, patches: Cohort, over: tuple[str, ...]) -> pd.Series:
        """Whether training had its combination, "seen" or "unseen", for every patch."""
        known, columns = self.checkpoint.combinations, over or ("class", self.schema.attributes[0].name)
        if not known or not set(columns) <= set(known["columns"]):
            raise MediError(f"{self.path}: does not say which combinations of {' x '.join(columns)} it was trained on")
        places = [known["columns"].index(name) for name in columns]
        seen = {tuple(row[place] for place in places) for row in known["rows"] if row[-1]}
        asked = patches.table[list(columns)].itertuples(index=False, name=None)
        return pd.Series(["seen" if row in seen else "unseen" for row in asked])

    def show(self, each: int = 3, seed: int = 0, steps: int = 16) -> "Figure":
        """A matplotlib figure of samples: a row per level of the first attribute, `each` images per class in it.

        Further attributes stand at their commonest level in training, numbers at their mean. Up to 8 classes and
        levels are shown.

        >>> import medi
        >>> model = medi.train(medi.phantom(patches=100, seed=0), preset="tiny", out="tiny-model", seed=0)
        >>> model.show(each=1, steps=1)  # doctest: +ELLIPSIS
        <... with 1 Axes>
        """
        from medi.figures.patches import patch_grid

        rows = self._shown(each)
        made = sample_images(self.denoiser, rows, seed, SamplerSettings(steps=steps, batch=min(len(rows), 128)))
        places = self.schema.attributes[0].name if self._has_places else "source"
        return patch_grid(made, rows.assign(source="medi"), places, "class")

    @property
    def _has_places(self) -> bool:
        return bool(self.schema.attributes) and self.schema.attributes[0].kind == "categorical"

    def _shown(self, each: int) -> pd.DataFrame:
        """The rows of `show`."""
        classes, *others = self.schema.conditions
        across = others[0].levels[:SHOWN] if self._has_places else ("",)
        table = pd.DataFrame(
            [(name, level) for name in classes.levels[:SHOWN] for level in across for _ in range(each)],
            columns=["class", others[0].name if self._has_places else "place"],
        )
        rest = {a.name: self._usual(a) for a in (others[1:] if self._has_places else others)}
        return table.assign(**rest, noise_id=[f"shown {i}" for i in range(len(table))])

    def _usual(self, attribute: Attribute) -> str:
        """The commonest level of an attribute in training, the mean of a number."""
        if attribute.kind == "continuous":
            return f"{attribute.center}"
        known = self.checkpoint.combinations or {"columns": [], "rows": []}
        if attribute.name not in known["columns"]:
            return attribute.levels[0]
        at = known["columns"].index(attribute.name)
        counts = {level: sum(row[-1] for row in known["rows"] if row[at] == level) for level in attribute.levels}
        return max(counts, key=lambda level: counts[level])

    @property
    def title(self) -> str:
        """What the model makes, and how long it was trained."""
        sizes = [f"{a.name} ({len(a.levels) or 'a number'})" for a in self.schema.conditions]
        trained = f"; {self.checkpoint.images:,} training images drawn" if self.checkpoint.images else ""
        return f"Model of {self.size} px patches, conditions: {', '.join(sizes)}{trained}"

    def to_frame(self) -> pd.DataFrame:
        """A row per condition, with its levels."""
        known = [(a.name, ", ".join(a.levels) or f"a number, {a.center:g} on average") for a in self.schema.conditions]
        return pd.DataFrame(known, columns=["condition", "levels"])

    def figure(self) -> "Figure":
        """`show`."""
        return self.show()


def train(
    patches: Cohort | str | Path,
    preset: str | Preset = "laptop64",
    out: str | Path = "medi-model",
    seed: int = 0,
    metadata: bool = True,
    progress: Show | None = None,
    **changes: Any,
) -> Model:
    """Train a model on class and metadata of a packed cohort's training patches; the same call goes on (P4, P12).

    Patches of the split `train` are learned, those of `validation` give the loss in the log; a cohort without a split
    is learned whole. preset: a name (`medi.training.presets` says what each takes), or a `Preset` of your own.
    metadata: False conditions on the class alone (CLS, the baseline). seed: of weights and draws. progress: shows a
    bar. changes: of the recipe, such as images=50_000 or dropout=0.1.
    Writes out/model.safetensors and out/log.jsonl. A finished model of these settings is not trained again.
    MediError for patches of another size than the preset's, unknown settings, and a folder with another model.

    Source: Drexlin et al., MICCAI 2025 (conditioning); Karras et al., NeurIPS 2022 (loss, preconditioning).

    >>> import medi
    >>> tissue = medi.phantom(patches=100, seed=0).with_columns(split="train")
    >>> model = medi.train(tissue, preset="tiny", out="tiny-cls", metadata=False)
    >>> [condition.name for condition in model.schema.conditions]
    ['class']
    >>> medi.train(tissue, preset="tiny", out="tiny-adam", optimizer="adam")
    Traceback (most recent call last):
    medi.core.errors.MediError: Recipe: optimizer is 'adam'; input should be 'adamw' or 'muon'
    """
    cohort, chosen, show = _packed(patches), named(preset), progress or Silent()
    chosen = replace(chosen, recipe=chosen.recipe.changed(**changes))
    encode_split(cohort, chosen, Path(out), show)
    with show.bars("training") as (advance,):
        return Model.load(train_split(cohort, chosen, Path(out), seed, metadata, advance))


def train_split(
    cohort: Cohort, chosen: Preset, folder: Path, seed: int, metadata: bool = True, advance: Advance = unheard
) -> Path:
    """Train on the training patches of a cohort, judged on its validation patches; the model's file."""
    schema = cohort.schema if metadata else cohort.schema.restrict([])
    patches, validation = training_patches(cohort), _validation_patches(cohort)
    return train_in(patches, folder, chosen.network, chosen.recipe, schema, seed, validation, advance, draw)


def encode_split(cohort: Cohort, chosen: Preset, folder: Path, show: Show) -> None:
    """Encode what `train_split` needs, where the recipe names an autoencoder; it does so itself, but shows nothing."""
    if chosen.recipe.autoencoder:
        patches = training_patches(cohort)
        check_size(patches, chosen.network)
        with show.bars("encoding") as (advance,):
            prepared(patches, _validation_patches(cohort), chosen.recipe, folder, advance)


def _validation_patches(cohort: Cohort) -> Cohort | None:
    return cohort.where(split="validation") if has_split(cohort.table) else None


def training_patches(cohort: Cohort) -> Cohort:
    """The patches of the split `train`; all of a cohort that has no split."""
    if not has_split(cohort.table):
        return cohort
    if not (cohort.table["split"] == "train").any():
        raise MediError("no patch is for training: hold out combinations first (`medi holdout`, Cohort.hold_out)")
    return cohort.where(split="train")


def sample(
    model: Model | str | Path,
    plan: Rows,
    out: str | Path = "medi-samples",
    seed: int = 0,
    worse: Model | str | Path | None = None,
    workers: int | None = None,
    progress: Show | None = None,
    classifier: str | Path | None = None,
    **settings: Any,
) -> Cohort:
    """The synthetic cohort of a plan, from a model or the folder of one.

    Arguments, errors and sources are those of `Model.sample`. Returns uint8 images [n, h, w, 3] with their table.

    >>> import medi
    >>> tissue = medi.phantom(patches=100, seed=0).with_columns(split="train")
    >>> model = medi.train(tissue, preset="tiny", out="tiny-model", seed=0)
    >>> rows = tissue.plan(to=2).expand(0).head(3)
    >>> made = medi.sample("tiny-model", rows, out="tiny-three", steps=2, guidance={})
    >>> len(made), set(made.table["origin"]) == {model.checkpoint.hash}
    (3, True)
    """
    return _as_model(model).sample(plan, out, seed, worse, workers, progress, classifier, **settings)


def sample_part(
    model: Path,
    plan: Rows,
    out: Path,
    settings: SamplerSettings,
    seed: int = 0,
    worse: Path | None = None,
    shard: Shard = WHOLE,
    workers: int | None = None,
    advance: Advance = unheard,
    classifier: Path | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> Cohort | None:
    """What `sample`, the verb and a study call: one part of a synthetic cohort, the whole one to whom ends last."""
    rows = rows_of(plan, seed)
    count = workers or workers_worthwhile(len(rows) // max(shard[1], 1), settings.batch)
    return generate(model, rows, out, seed, settings, advance, shard, worse, count, classifier, certificate)


def rows_of(plan: Rows, seed: int = 0) -> pd.DataFrame:
    """A row per image: of a plan, of a table of rows or of counts `n`, or of the folder or file that holds one."""
    if isinstance(plan, Plan):
        return plan.expand(seed)
    if isinstance(plan, pd.DataFrame):
        return plan if "noise_id" in plan.columns else images(plan)
    path = Path(plan)
    if not path.is_dir():
        return images(read_rows(path))
    if (path / "rows.parquet").exists():
        return read_table(path / "rows.parquet")
    if not (path / "plan.json").exists():
        raise MediError(f"{path}: no plan here; `medi plan`, or Cohort.plan and save, write one")
    return Plan.load(path).expand(seed)


def named(chosen: str | Preset) -> Preset:
    """A preset by its name, or itself."""
    return chosen if isinstance(chosen, Preset) else preset(chosen)


def _as_model(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else Model.load(model)


def _packed(patches: Cohort | str | Path) -> Cohort:
    cohort = patches if isinstance(patches, Cohort) else Cohort.load(patches)
    cohort.images  # noqa: B018 - refuses a cohort without pixels
    return cohort
