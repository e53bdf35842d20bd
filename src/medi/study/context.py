"""A study in its run folder: its settings, its sets of patches, their features. Stages write these and read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort.certificate import Certificate
from medi.cohort.holdout import Holdout
from medi.cohort.table import Cohort
from medi.core.files import read_table, safe_name
from medi.core.processes import Call, Summed, side_by_side
from medi.core.progress import Advance, Show, Silent
from medi.evaluation.encoders import Encoder, encoder, learned
from medi.evaluation.features import ROUND_TRIP, Embedded
from medi.evaluation.memorisation import Patches
from medi.evaluation.splits import has_class, spelled_alike
from medi.study.settings import StudySettings, read_study
from medi.study.sources import Source, source_of

SETTINGS = "study.yaml"  # in the run folder
CHECKPOINT = "model.safetensors"  # in the folder of a model
TRAINING_AUDIT = "audit-training"  # the audit of the training patches
LEARNED = "encoders/learned.safetensors"
CLS, MEDI = "cls", "medi"
MODELS = (CLS, MEDI)  # class alone (the baseline), class and metadata
TRANSLATED = "translated"  # the training set and the stage of translated training patches
CLASSIFIER = "classifier"  # the stage that trains what guides both models, where a study asks for it
STYLE, STYLE_MODEL = "style", "style-model"  # the same by an image-to-image translator, and the stage that trains it
OLD_NAMES = {TRANSLATED: "transferred", f"embeddings/{TRANSLATED}.parquet": "embeddings/transfer.parquet"}  # of 0.1
Worker = Callable[[Path, str, Advance], None]  # called by a process of its own, it opens the study in a folder again


@dataclass(frozen=True)
class Study:
    """A study whose stages write to `folder`; `show` is told of long work."""

    settings: StudySettings
    folder: Path
    show: Show = field(default_factory=Silent)

    @property
    def source(self) -> Source:
        """Where its patches come from."""
        return source_of(self.settings)

    @property
    def over(self) -> tuple[str, str]:
        """The columns whose combinations are held out and filled."""
        return ("class", self.settings.attribute)

    def path(self, name: str) -> Path:
        """A file or folder of the run; where version 0.1 wrote it under another name, that one."""
        old = self.folder / OLD_NAMES.get(name, name)
        return old if old.exists() else self.folder / name

    def checkpoint(self, model: str) -> Path:
        """The weights of a model."""
        return self.folder / "models" / model / CHECKPOINT

    # --- sets of patches ----------------------------------------------------------------------------------------------

    def split(self) -> Cohort:
        """The collected cohort with its column `split`; a hold-out of the source is not this study's."""
        cohort = Cohort.load(self.folder / "cohort")
        table = Holdout.load(self.folder / "holdout").apply(cohort.table)
        info = {name: value for name, value in cohort.info.items() if name != "certificate"}
        return Cohort(table, cohort.schema, cohort.pixels, info)

    def certificate(self) -> Certificate:
        """That of this study's hold-out."""
        return Holdout.load(self.folder / "holdout").certificate

    def real_stores(self) -> dict[str, Cohort]:
        """All real patches there are: the cohort, and the sets drawn beside it."""
        drawn = {name: Cohort.load(self.folder / "references" / name) for name in self.source.drawn}
        return {name: spelled_alike(cohort) for name, cohort in {"cohort": self.split(), **drawn}.items()}

    def stores(self) -> dict[str, Cohort]:
        """All patches there are, real and synthetic: the real ones, and the samples."""
        samples = {model: Cohort.load(self.folder / "samples" / model) for model in MODELS}
        if self.settings.evaluation.translated:
            samples[TRANSLATED] = Cohort.load(self.path(TRANSLATED))
        if self.settings.evaluation.style:
            samples[STYLE] = Cohort.load(self.folder / STYLE)
        if self.settings.training.autoencoder and (self.folder / ROUND_TRIP / "cohort.json").exists():
            samples[ROUND_TRIP] = Cohort.load(self.folder / ROUND_TRIP)
        return self.real_stores() | {name: spelled_alike(cohort) for name, cohort in samples.items()}

    def real_sets(self) -> dict[str, Cohort]:
        """The sets of the source, which are there before any sample."""
        return self._sets_in(self.real_stores())

    def sets(self) -> dict[str, Cohort]:
        """The sets of patches that are measured: those of the source, and the samples of each model."""
        return self._sets_in(self.stores())

    def _sets_in(self, stores: dict[str, Cohort]) -> dict[str, Cohort]:
        cohort = stores.pop("cohort")
        return {name: cohort.select(rows) for name, rows in self._sets_of(cohort).items()} | stores

    def _sets_of(self, cohort: Cohort) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which patches are of each set of the source; those without a class are of none."""
        return {name: rows & has_class(cohort) for name, rows in self.source.sets(cohort.table).items()}

    def unseen(self) -> set[tuple[str, ...]]:
        """The combinations without a training patch: held out, or never there."""
        split = self.split()
        seen = set(combinations_of(split.where(split="train").table, self.over))
        levels = [split.schema.attribute(name).levels for name in self.over]
        return set(product(*levels)) - seen

    def tests(self, reference: pd.DataFrame) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which test patches are of combinations that training saw, and which not; the empty one is left out."""
        unseen = self.unseen()
        is_unseen = np.array([found in unseen for found in combinations_of(reference, self.over)], dtype=bool)
        return {name: rows for name, rows in (("seen", ~is_unseen), ("unseen", is_unseen)) if rows.any()}

    # --- features -----------------------------------------------------------------------------------------------------

    def encoder(self, name: str = "") -> Encoder:
        """An encoder by its name, by default the study's first; "learned" is the study's own."""
        chosen = name or self.settings.evaluation.encoders[0]
        return learned.load(self.folder / LEARNED) if chosen == learned.NAME else encoder(chosen)

    def embedded(self, encoder: str = "") -> dict[str, Embedded]:
        """Features and table of each set, of the study's first encoder or of the named one."""
        home, stores = embeddings_of(self.settings, encoder or self.settings.evaluation.encoders[0]), self.stores()
        found = {
            name: Embedded(read_table(self.path(f"{home}/{name}.parquet")).to_numpy(dtype=np.float64), cohort.table)
            for name, cohort in stores.items()
        }
        cohort = found.pop("cohort")
        return {name: cohort.take(rows) for name, rows in self._sets_of(stores["cohort"]).items()} | found

    def patches(self) -> dict[str, Patches]:
        """Pixels and features of each set."""
        embedded = self.embedded()
        return {name: Patches(cohort, embedded[name].features) for name, cohort in self.sets().items()}

    # --- work by several processes ------------------------------------------------------------------------------------

    def side_by_side(self, title: str, worker: Worker, names: Sequence[str]) -> None:
        """Call `worker(folder, name, advance)` for all names at once, a process each."""
        calls: dict[str, Call] = {f"{title} {name}": (worker, (self.folder, name)) for name in names}
        side_by_side(calls, self.show)


def measured(folder: Path, name: str, work: Callable[[Study, Path], str], advance: Advance) -> tuple[str, str]:
    """Worker: the work of one stage; its name and its line."""
    return name, work(replace(reopen(folder), show=Summed(advance)), folder / name)


def reopen(folder: str | Path) -> Study:
    """The study whose settings lie in a run folder, of this version of medi or of 0.1."""
    return Study(read_study(Path(folder) / SETTINGS), Path(folder))


def embeddings_of(s: StudySettings, name: str) -> str:
    """The stage and folder of an encoder's features: the first one's has the plain name."""
    return "embeddings" if name == s.evaluation.encoders[0] else f"embeddings-{safe_name(name)}"


def combinations_of(table: pd.DataFrame, over: Sequence[str]) -> list[tuple[str, ...]]:
    """The combination of each row."""
    return list(table[list(over)].itertuples(index=False, name=None))
