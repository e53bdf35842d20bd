"""Models of inner hold-outs: what MeDi and CLS would gain, told from training patches alone.

Each inner hold-out of `medi recommend` keeps some training patches. A model is trained on these alone, fills their
combinations by the usual plan, and its images are embedded: all by the functions that a study calls. Neither the
patches that the inner hold-out leaves out nor those of the true one are seen (P5). Models and images are kept in
folders named by what decides them, so that the same call goes on (P4, P12).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from medi.api.given import embed_sets
from medi.api.guiding import train_in_split
from medi.api.model import encode_split, named, sample_part, train_split
from medi.api.refusing import with_class
from medi.cohort.plan import balance
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.progress import Show, Tally
from medi.core.set_names import normalised_name
from medi.evaluation.classify.heads.inner import FOLDS
from medi.evaluation.classify.stained import STAINS, stained
from medi.evaluation.encoders import Encoder
from medi.evaluation.features import Embedded, is_constant
from medi.evaluation.recommend import MEDI, Generated, holdouts
from medi.evaluation.splits import added
from medi.models.cost import duration
from medi.sampling.sampler import SamplerSettings, sampler_settings
from medi.training.classifier import ClassifierSettings
from medi.training.cost import cost_of, seconds_of
from medi.training.log import Diverged
from medi.training.loop import EARLY, MODEL, check_size
from medi.training.presets import Preset

TO = 200  # real and synthetic images of a combination together, as in a study
ALIKE = "its images are all alike"


@dataclass(frozen=True)
class Task:
    """One model of one part of the training patches, the images that it is asked for, and where both are kept."""

    kind: str
    part: Cohort
    rows: pd.DataFrame
    model: Path
    samples: Path
    title: str

    @property
    def is_trained(self) -> bool:
        return (self.model / MODEL).exists()

    @property
    def is_sampled(self) -> bool:
        return (self.samples / "cohort.json").exists()


@dataclass(frozen=True)
class InnerModels:
    """How the models of inner hold-outs are trained and sampled: as the model of the whole training set would be.

    folder: where models and images are kept; the same call goes on there. preset: network and recipe; sampling: as for
    `medi.sample`; to: real and synthetic images of each combination together; kinds: "medi", "cls" or both; draws: of
    how many inner hold-outs, at most FOLDS. A remedy without models is asked the same inner hold-outs.

    >>> import medi
    >>> medi.InnerModels.of("my-models", preset="tiny", images=64, steps=4).preset.recipe.images
    64
    """

    folder: Path
    preset: Preset
    sampling: SamplerSettings = field(default_factory=SamplerSettings)
    to: int = TO
    kinds: tuple[str, ...] = (MEDI,)
    draws: int = FOLDS
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)

    @classmethod
    def of(
        cls,
        folder: str | Path,
        preset: str | Preset = "laptop64",
        images: int | None = None,
        to: int = TO,
        kinds: Sequence[str] = (MEDI,),
        draws: int = FOLDS,
        classifier: ClassifierSettings | None = None,
        **sampling: Any,
    ) -> "InnerModels":
        """By the name of a preset. images: training images in place of the preset's; sampling: of `Model.sample`;
        classifier: how the one is trained that guides, where guidance={"classifier": 2} asks for it."""
        chosen = named(preset)
        if images is not None:
            chosen = replace(chosen, recipe=chosen.recipe.changed(images=images))
        return cls(
            Path(folder),
            chosen,
            sampler_settings(**sampling),
            to,
            tuple(kinds),
            draws,
            classifier or ClassifierSettings(),
        )

    def check(self, train: Cohort) -> None:
        """Refuse training patches that no model can learn, before any work."""
        if train.pixels is None:
            raise MediError(f"{train.no_images('a model')}; leave models out, or give a packed cohort")
        if train.has_features:
            raise MediError("images of a model cannot be embedded as these features were: give the cohort without them")
        check_size(train, self.preset.network)
        if not 1 <= self.draws <= FOLDS:
            raise MediError(f"models of {self.draws} inner hold-outs: there are 1 to {FOLDS}")

    def tasks(self, train: Cohort, over: Sequence[str], seed: int, whole: bool) -> list[list[Task]]:
        """For each kind the models of all inner hold-outs, and with `whole` last that of all training patches."""
        kept = [train.select(rows) for rows in holdouts(train.table, over, seed, self.draws)]
        titled = [(f"inner hold-out {i} of {len(kept)}", part) for i, part in enumerate(kept, 1)]
        titled += [("all training patches", train)] if whole else []
        rows = [balance(part.table, part.schema, over, self.to).expand(seed) for _, part in titled]
        return [[self._task(kind, *one, plan, seed) for one, plan in zip(titled, rows)] for kind in self.kinds]

    def _task(self, kind: str, title: str, part: Cohort, rows: pd.DataFrame, seed: int) -> Task:
        model = self.folder / f"{kind}-{content_hash(part.digest(), self.preset, seed)}"
        samples = f"samples-{content_hash(rows.to_csv(index=False), self.sampling, *self._guide)}"
        return Task(kind, part, rows, model, model / samples, f"{kind}, {title}")

    def cost(self, train: Cohort, over: Sequence[str], seed: int, whole: bool = False) -> str:
        """What is still to be done, in a sentence: models, images, and the time on this machine by a short trial."""
        return self._cost(self.tasks(train, over, seed, whole), train.schema)

    def _cost(self, tasks: Sequence[Sequence[Task]], schema: Schema) -> str:
        every = [task for some in tasks for task in some]
        models = sum(not task.is_trained for task in every)
        images = sum(len(task.rows) for task in every if not task.is_sampled)
        has = f"{len(every)} ({', '.join(self.kinds)})"
        if not models and not images:
            return f"models: {has}, all trained and sampled before"
        found = cost_of(self.preset, schema)  # its rate counts three passes an image, sampling one an evaluation
        seconds = models * found.seconds + images * self.sampling.evaluations / (3 * found.images_per_second)
        for settings in self._guide:  # one for each part of the training patches, which all kinds of models share
            parts = len({task.part.digest() for task in every if not task.is_sampled})
            seconds += parts * seconds_of(settings, schema, self.preset.network.size)
        return (
            f"models to train: {models} of {has}, on {self.preset.recipe.images:,} images each; images to sample: "
            f"{images:,}; together about {duration(seconds)} here, by a short trial; kept in {self.folder}"
        )

    def generated(
        self,
        train: Cohort,
        over: Sequence[str],
        extractor: Encoder,
        seed: int,
        whole: bool,
        cache: str | Path | None,
        show: Show,
        stains: Sequence[str] = (),
    ) -> list[Generated]:
        """What each kind adds to every inner hold-out; a model that fails is the reason why its set is not judged.

        stains: normalisations under each of which a set stands once more.
        """
        by_kind, found = self.tasks(train, over, seed, whole), []
        show.line(self._cost(by_kind, train.schema))
        for tasks in by_kind:
            kind, made = tasks[0].kind, list[tuple[Cohort, Embedded]]()
            try:
                made += [self._added(task, extractor, seed, cache, show) for task in tasks]
            except Diverged as error:
                failed = Generated(kind, reason=f"not judged: {error}")
                found += [failed, *(replace(failed, name=normalised_name(kind, by), by=by) for by in stains)]
                continue
            found.append(_generated(kind, [rows for _, rows in made], whole))
            parts = [part for part, _ in made]
            found += [_normalised(kind, by, train, parts, extractor, seed, whole, show) for by in stains]
        return found

    def _added(
        self, task: Task, extractor: Encoder, seed: int, cache: str | Path | None, show: Show
    ) -> tuple[Cohort, Embedded]:
        """Train, sample and embed; whatever is there already is taken."""
        try:
            made = self._made(task, seed, show)
        except Diverged as error:
            raise Diverged(f"the model of {task.title} failed: {error}") from error
        part = with_class(task.kind, added(task.kind, made), show)
        ((_, rows),) = embed_sets({task.kind: part}, extractor, cache, show)
        if is_constant(rows.features) or not rows.whole.all():
            raise Diverged(f"the model of {task.title} failed: {ALIKE}")
        return part, rows

    def _made(self, task: Task, seed: int, show: Show) -> Cohort:
        encode_split(task.part, self.preset, task.model, show)
        with show.bars(f"training {task.title}") as (advance,):
            model = train_split(task.part, self.preset, task.model, seed, task.kind == MEDI, advance)
        worse = model.with_name(EARLY) if self.sampling.guidance.autoguidance else None
        guide = self._guide_of(task.part, seed, show)
        with show.bars(f"sampling {task.title}") as (advance,):
            made = sample_part(
                model, task.rows, task.samples, self.sampling, seed, worse, advance=advance, classifier=guide
            )
        if made is None:
            raise MediError(f"{task.samples}: other processes are still sampling; run the same command when they end")
        return made

    @property
    def _guide(self) -> list[ClassifierSettings]:
        """How the classifier that guides is trained, where one does."""
        return [self.classifier] if self.sampling.guidance.needs_classifier else []

    def _guide_of(self, part: Cohort, seed: int, show: Show) -> Path | None:
        """The classifier of these training patches, where one guides; all kinds of models share it."""
        for settings in self._guide:
            folder = self.folder / f"classifier-{content_hash(part.digest(), settings, seed)}"
            with show.bars("training the classifier") as (advance,):
                return train_in_split(part, folder, settings, seed, advance)
        return None


def _generated(name: str, rows: Sequence[Embedded], whole: bool, by: str = "") -> Generated:
    """What is added to the inner hold-outs, and with `whole` last to all training patches."""
    return Generated(name, tuple(rows[:-1] if whole else rows), rows[-1] if whole else None, by=by)


def _normalised(
    kind: str, by: str, train: Cohort, parts: Sequence[Cohort], extractor: Encoder, seed: int, whole: bool, show: Show
) -> Generated:
    """The images of a kind under a stain normalisation, whose reference are the training patches."""
    name = normalised_name(kind, by)
    try:
        transform = STAINS[by](train.images[:], seed).apply
    except MediError as error:
        return Generated(name, reason=str(error), by=by)
    with show.bars(f"staining the images of {kind}") as (advance,):
        tally = Tally(advance, sum(map(len, parts)))
        rows = [Embedded(stained(part, transform, extractor, tally.part()), part.table) for part in parts]
    return _generated(name, rows, whole, by)
