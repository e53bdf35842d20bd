"""Where the patches of a study come from: the embedded phantom, or a cohort of the user's own.

Beside the training patches a study needs real ones: `reference`, which images are measured against and classifiers
tested on; `floor`, others from other slides; `oracle`, real patches of the combinations that training lacks.
"""

import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort import phantom, readers
from medi.cohort.certificate import ASIDE
from medi.cohort.image_fit import Fit
from medi.cohort.packing import pack, scale_of
from medi.cohort.schema import check_names
from medi.cohort.table import Cohort, concatenate
from medi.core.errors import MediError
from medi.core.files import file_hash
from medi.core.progress import Advance, Show
from medi.evaluation.fidelity.compare import halves
from medi.study.settings import PATHS, StudySettings

REFERENCES = ("reference", "floor", "oracle")
TESTS = ("test_seen", "test_unseen")

Mask = Bool[np.ndarray, " n"]


@runtime_checkable
class Source(Protocol):
    """What a study asks of the origin of its patches."""

    @property
    def drawn(self) -> tuple[str, ...]:
        """The names of the sets that are made beside the cohort."""
        ...

    def check(self) -> None:
        """Refuse settings that cannot work before anything is written."""
        ...

    def key(self) -> object:
        """What decides the collected patches, as plain data."""
        ...

    def read(self) -> Cohort:
        """The cohort as far as it is known before it is collected: its table and schema."""
        ...

    def collect(self, folder: Path, show: Show) -> Cohort:
        """Write the packed cohort to `folder`; the same call goes on after a kill."""
        ...

    def draw(self, name: str, advance: Advance) -> Cohort:
        """The set of this name, one of `drawn`."""
        ...

    def sets(self, table: pd.DataFrame) -> dict[str, Mask]:
        """Which rows of the cohort, with its splits, are each of the other sets."""
        ...


def source_of(settings: StudySettings) -> Source:
    return Collected(settings) if settings.cohort.source else Phantom(settings)


class Phantom:
    """Any number of patches of any combination can be drawn, so every set has slides of its own."""

    drawn: tuple[str, ...] = REFERENCES

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings

    def check(self) -> None:
        phantom.schema().attribute(self.settings.attribute)

    def key(self) -> object:
        return [self.settings.cohort, self.settings.seed, phantom.parameters_hash()]

    def read(self) -> Cohort:
        s = self.settings
        return phantom.cohort(s.seed, s.cohort.size, s.cohort.patches)

    def collect(self, folder: Path, show: Show) -> Cohort:
        made = self.read()
        made.save(folder)
        return made

    def draw(self, name: str, advance: Advance) -> Cohort:
        s, parts = self.settings, []
        count = {"reference": s.evaluation.patches, "floor": s.evaluation.distance_images, "oracle": s.plan.to}[name]
        for i, site in enumerate(phantom.SITES):
            wanted = [(class_, site) for class_ in phantom.CLASSES]
            parts.append(phantom.fresh(wanted, count, s.seed, name, s.cohort.size, s.evaluation.patches_per_slide))
            advance((i + 1) * len(parts[0]), len(phantom.SITES) * len(parts[0]))
        return concatenate(parts)

    def sets(self, table: pd.DataFrame) -> dict[str, Mask]:
        return {"train": _of(table, "train"), "reserve": _of(table, "reserve")}


class Collected:
    """A packed cohort, or anything the readers take. Patients of `reference` train nothing (P5).

    Where the hold-out sets patches aside, `reference` is every test patch, `oracle` what was set aside, and `floor` the
    training patches and those. Else the test slides are shared between reference and floor, and there is no oracle.
    """

    drawn: tuple[str, ...] = ()

    def __init__(self, settings: StudySettings) -> None:
        self.settings, self.path = settings, Path(settings.cohort.source)

    def check(self) -> None:
        c = self.settings.cohort
        if not self.path.exists():
            raise MediError(
                f"cohort.source: {self.path} does not exist; it is relative to the study file, or --source names it"
            )
        fit, cohort = Fit(c.size, c.mode, c.mpp), self.read()
        if cohort.pixels is None:
            scale_of(cohort.table, fit)  # refuses what cannot be resampled
        schema = cohort.schema
        schema.attribute(self.settings.attribute)
        check_names(a.name for a in schema.attributes)

    def key(self) -> object:
        known = self.path / "cohort.json" if (self.path / "cohort.json").exists() else self.path
        return [self.settings.cohort, file_hash(known) if known.is_file() else ""]

    def collect(self, folder: Path, show: Show) -> Cohort:
        c, cohort = self.settings.cohort, self.read()
        if cohort.pixels is not None:
            return self._adopt(cohort, folder)
        fit = partial(pack, mode=c.mode, mpp=c.mpp, on_error=c.read.get("on_error", "fail"))
        with show.bars("packing") as (advance,):
            return fit(cohort, Path(cohort.info["root"]), folder, c.size, progress=advance)

    def draw(self, name: str, advance: Advance) -> Cohort:
        raise MediError(f"{name} patches cannot be drawn: they are rows of {self.path}")

    def sets(self, table: pd.DataFrame) -> dict[str, Mask]:
        tests, aside = _of(table, *TESTS), _of(table, ASIDE)
        own = {"train": _of(table, "train"), "reserve": _of(table, "reserve")}
        if aside.any():
            return own | {"reference": tests, "floor": own["train"] | aside, "oracle": aside}
        first = np.zeros(len(table), dtype=bool)
        first[tests] = halves(table[tests], ("class", self.settings.attribute), self.settings.seed)
        return own | {"reference": first, "floor": tests & ~first}

    def read(self) -> Cohort:
        """Table and schema; the pixels as well where the source is packed."""
        if (self.path / "cohort.json").exists():
            return Cohort.load(self.path)
        given = self.settings.cohort.read
        options: dict[str, Any] = {name: Path(text) if name in PATHS else text for name, text in given.items()}
        cohort = readers.read(self.path, options.pop("kind", "auto"), **options)
        if not cohort.info.get("root"):
            raise MediError(
                f"{self.path}: no images are known here; name their column (cohort: {{read: {{image: ...}}}})"
            )
        return replace(cohort, info={**cohort.info, "root": str(Path(cohort.info["root"]).resolve())})

    def _adopt(self, cohort: Cohort, folder: Path) -> Cohort:
        """A packed cohort in the run folder; its pixels are linked where the file system can, else copied."""
        if cohort.images.size != self.settings.cohort.size:
            raise MediError(
                f"{self.path} is packed at {cohort.images.size} px, cohort.size is {self.settings.cohort.size}: "
                "make them equal, or pack its source again"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("pixels.npy", "pixels.sums.json"):
            with suppress(OSError):
                os.link(self.path / name, folder / name)
        cohort.save(folder)
        return Cohort.load(folder)


def _of(table: pd.DataFrame, *splits: str) -> Mask:
    return table["split"].isin(splits).to_numpy(dtype=bool)
