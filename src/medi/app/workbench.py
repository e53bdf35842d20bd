"""What a finished run folder offers: its models, its patches by combination, and the nearest training patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from scipy.spatial.distance import cdist

from medi.cohort.combinations import over
from medi.cohort.holdout import Holdout
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort, slides_in_turn
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import read_json, read_table
from medi.evaluation.encoders import Encoder, embed
from medi.models.checkpoint import Checkpoint, load_checkpoint
from medi.models.classifier import CLASSIFIER_FILE, NoisyClassifier
from medi.models.denoiser import Denoiser
from medi.report.run import Audit
from medi.report.run import read as read_run
from medi.report.sentences import summary
from medi.sampling.generate import load_guide, load_on_device
from medi.study.context import CLASSIFIER, reopen
from medi.study.settings import StudySettings, read_study
from medi.training.loop import EARLY

MODEL_FILE = "model.safetensors"
NEEDED = ("run.json", "study.yaml", "cohort/cohort.json", "holdout/certificate.json")
SOURCES = {  # where real patches of a combination come from, best first, and how a person is told
    "train": "training patches",
    "kept": "real patches that training never saw",
    "reference": "real patches that training never saw",
}
SENTENCES = 2  # of a report that the page shows where results say none
PROBED = 200  # training patches whose own nearest neighbours give the scale of distances


@dataclass(frozen=True)
class Model:
    """A checkpoint of the run, or one adapted from it in the app. `learned`: new levels and their patches."""

    name: str
    path: Path
    checkpoint: Checkpoint
    learned: dict[tuple[str, str], int] = field(default_factory=dict)

    @cached_property
    def schema(self) -> Schema:
        return self.checkpoint.schema

    @cached_property
    def denoiser(self) -> Denoiser:
        return load_on_device(self.path)[0]

    @cached_property
    def early(self) -> Denoiser | None:
        """The average for autoguidance, where its training kept one."""
        path = self.path.with_name(EARLY)
        return load_on_device(path)[0] if path.is_file() else None

    @property
    def size(self) -> int:
        """Pixels along a side of its patches."""
        return self.checkpoint.network.size

    @property
    def guidable(self) -> bool:
        return any(self.checkpoint.drops(a.name) for a in self.schema.conditions)

    def levels(self, attribute: Attribute) -> list[str]:
        """What may be chosen: all levels, and "" where the model can be told that it is not known."""
        unknown = self.checkpoint.met_missing(attribute)
        return [*attribute.levels, *([attribute.missing[0]] if unknown and attribute.missing else [])]


@dataclass(frozen=True)
class Shown:
    """Patches to look at: pixels, their rows, what they are, and which conditions they were chosen by."""

    images: UInt8[np.ndarray, "n h w 3"]
    table: pd.DataFrame
    what: str
    conditions: dict[str, str]


@dataclass(frozen=True)
class Neighbours:
    """The nearest training patch of each image [n] and how far it is, in units of `typical`: the median distance of
    a training patch to the nearest one of another slide."""

    images: UInt8[np.ndarray, "n h w 3"]
    table: pd.DataFrame
    distances: Float64[np.ndarray, " n"]
    typical: float


class Workbench:
    """Reads a run folder and nothing else; what the app writes goes to `scratch`, which its owner deletes.

    has_patches: whether there are real patches to lay beside images.
    """

    has_patches = True

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        if lacking := [name for name in NEEDED if not (folder / name).is_file()]:
            raise MediError(f"{folder}: no run to show ({lacking[0]} is missing); `medi demo --out RUN` makes one")
        self.settings: StudySettings = read_study(folder / "study.yaml")
        self.models = {path.parent.name: _model(path) for path in sorted(folder.glob(f"models/*/{MODEL_FILE}"))}
        if not self.models:
            raise MediError(f"{folder}: no trained model yet; run the same `medi` command again to finish the study")
        self.models = dict(sorted(self.models.items(), key=lambda item: -len(item[1].schema.conditions)))
        cohort = Cohort.load(folder / "cohort")
        self.whole = Cohort(Holdout.load(folder / "holdout").apply(cohort.table), cohort.schema, cohort.pixels)
        self.training = self.whole.where(split="train")

    @property
    def title(self) -> str:
        return self.settings.title

    @cached_property
    def classifier(self) -> NoisyClassifier | None:
        """The one that guides, where the run has trained one."""
        path, guided = self.folder / CLASSIFIER / CLASSIFIER_FILE, self.first
        return load_guide(path, guided.denoiser, guided.checkpoint.mpp) if path.is_file() else None

    @property
    def first(self) -> Model:
        """The model with the most conditions."""
        return next(iter(self.models.values()))

    @property
    def crossed(self) -> str:
        """The attribute whose combinations with the class the study is about."""
        return over(self.first.schema, ["class", self.settings.attribute])[1].name

    def model(self, name: str) -> Model:
        """A model of this run by its name; nothing else is ever opened (P11)."""
        if name not in self.models:
            raise MediError(f"model {name!r} is unknown; known: {', '.join(self.models)}")
        return self.models[name]

    def add(self, name: str, path: Path, level: tuple[str, str], patches: int, base: Model) -> Model:
        """A model that was adapted from `base`."""
        made = _model(path)
        self.models[name] = Model(name, path, made.checkpoint, base.learned | {level: patches})
        return self.models[name]

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Training patches per class (rows) and level of the crossed attribute (columns)."""
        schema = self.first.schema
        table = self.training.table.groupby(["class", self.crossed]).size().unstack(fill_value=0)
        levels = schema.attribute(self.crossed).levels
        return table.reindex(index=schema.classes.levels, columns=levels, fill_value=0)

    def trained(self, model: Model, conditions: Mapping[str, str]) -> int | None:
        """How many training patches agree with all of these conditions, None where nobody knows; for a learned level,
        what it was learned from."""
        learned = [n for key, n in model.learned.items() if key in set(conditions.items())]
        return min(learned) if learned else int(_matching(self.training.table, conditions).sum())

    def unseen_levels(self, model: Model, attribute: Attribute, class_: str) -> list[str]:
        """The levels of an attribute that training never saw with this class."""
        learned = {level for name, level in model.learned if name == attribute.name}
        seen = set(self.training.table.loc[self.training.table["class"] == class_, attribute.name])
        return [level for level in model.levels(attribute) if level not in seen | learned]

    def real(self, conditions: Mapping[str, str], n: int, seed: int = 0) -> Shown | None:
        """Up to n real patches of a combination, of as many slides as there are: training patches, else kept ones.

        Where nothing real has all conditions, the last one is let go, and so on down to class and crossed attribute.
        """
        wanted = dict(conditions)
        while True:
            for source, what in SOURCES.items():
                found = self._source(source)
                if found is not None and (rows := _matching(found.table, wanted)).any():
                    return _taken(found, rows, n, seed, what, wanted)
            if len(wanted) <= 2:
                return None
            wanted.popitem()

    def made(self, model: Model, conditions: Mapping[str, str], n: int) -> Shown | None:
        """Up to n images of a combination that the study has sampled with this model."""
        folder = self.folder / "samples" / model.name
        if not (folder / "cohort.json").is_file():
            return None
        found = Cohort.load(folder)
        rows = _matching(found.table, conditions)
        return _taken(found, rows, n, 0, "sampled by the study", dict(conditions)) if rows.any() else None

    def nearest(self, images: UInt8[np.ndarray, "n h w 3"]) -> Neighbours | None:
        """The training patches nearest to these images, in the descriptor of the study; None where there are none."""
        distances = cdist(self.encoder.encode(images), self._features)
        at = distances.argmin(axis=1)
        table = self.training.table.iloc[at]  # one patch may be the nearest of several
        return Neighbours(self.training.images[at], table, distances.min(axis=1) / self._typical, self._typical)

    @cached_property
    def encoder(self) -> Encoder:
        return reopen(str(self.folder)).encoder()

    @cached_property
    def _features(self) -> Float32[np.ndarray, "n d"]:
        """Of the training patches: as the study has them, else computed."""
        path = self.folder / "embeddings" / "cohort.parquet"
        if path.is_file() and (found := read_table(path)).shape == (len(self.whole), self.encoder.dimension):
            return found[(self.whole.table["split"] == "train").to_numpy()].to_numpy(dtype=np.float32)
        return embed(self.training, self.encoder)

    @cached_property
    def _typical(self) -> float:
        slides = pd.factorize(self.training.table["slide"])[0]
        rows = seeds.generator("probed").permutation(len(slides))[:PROBED]
        distances = cdist(self._features[rows], self._features)
        distances[slides[rows][:, None] == slides[None, :]] = np.inf
        nearest = distances.min(axis=1)
        return float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 1.0

    def _source(self, name: str) -> Cohort | None:
        if name == "train":
            return self.training
        if name == "kept":
            return self._kept
        folder = self.folder / "references" / "reference"
        return Cohort.load(folder) if (folder / "cohort.json").is_file() else None

    @cached_property
    def _kept(self) -> Cohort:
        return self.whole.select((self.whole.table["split"] != "train").to_numpy())

    @property
    def alarms(self) -> Sequence[str]:
        """The alarms of the study's audit, none where it is not there."""
        return Audit.read(self.folder / "audit" / "audit.json").alarms

    @property
    def verdict(self) -> list[str]:
        """What the study found, in sentences; none where it is not finished."""
        return verdict_of(self.folder)

    @property
    def report(self) -> Path | None:
        """The study's page, where it is written."""
        path = self.folder / "report.html"
        return path if path.is_file() else None


def verdict_of(folder: Path) -> list[str]:
    """The sentences of a run's verdict: as its results say them, else the first ones of its report."""
    path = folder / "results.json"
    content = read_json(path) if path.is_file() else {}
    found = content.get("verdict") or content.get("sentences") or []
    if isinstance(found, dict):
        found = found.get("sentences") or found.get("text") or []
    if listed := [found] if isinstance(found, str) else [text for text in found if isinstance(text, str)]:
        return listed
    return summary(read_run(folder))[:SENTENCES] if content.get("balanced_accuracy") else []


def _model(path: Path) -> Model:
    return Model(path.parent.name, path, load_checkpoint(path))


def _matching(table: pd.DataFrame, conditions: Mapping[str, str]) -> Bool[np.ndarray, " n"]:
    keep = np.ones(len(table), dtype=bool)
    for column, level in conditions.items():
        keep &= (table[column] == level).to_numpy() if column in table else False
    return keep


def _taken(
    cohort: Cohort, rows: Bool[np.ndarray, " n"], n: int, seed: int, what: str, conditions: dict[str, str]
) -> Shown:
    """n of the rows, one of each slide before a second one of any."""
    places: Int64[np.ndarray, " k"] = seeds.generator("shown", seed).permutation(np.flatnonzero(rows))
    found = cohort.select(places[slides_in_turn(cohort.table.iloc[places])][:n])
    return Shown(found.images[:], found.table, what, conditions)
