"""Which remedy fits this cohort? `recommend`, and the result that it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from medi.api.given import Given, cohort_of, columns_of, embedded, encoder_of, is_given
from medi.api.measures import ENCODER
from medi.api.refusing import bare, with_class
from medi.cohort.table import Cohort
from medi.core.errors import MediError, did_you_mean
from medi.core.files import write_table
from medi.core.locks import holding
from medi.core.progress import Show, Silent
from medi.core.showing import Shown
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.crossed import check_heads
from medi.evaluation.classify.scoring import REAL
from medi.evaluation.classify.stained import AUGMENTATIONS, STAIN, stain_arms
from medi.evaluation.classify.utility import check
from medi.evaluation.encoders import Encoder
from medi.evaluation.features import Embedded
from medi.evaluation.recommend import MEDI, NOT_JUDGED, Generated, Judged, judge
from medi.evaluation.splits import TRAIN, is_split, tested_parts
from medi.figures import Axis, Drawing, forest
from medi.figures.names import arm_name, head_name
from medi.report.recommended import recommended, regretted

if TYPE_CHECKING:
    from medi.api.inner_models import InnerModels

SETS = (REAL, *(name for name in STAIN if name not in AUGMENTATIONS))  # of the same patches, row by row
USUAL_SETS = (REAL, "macenko")
FILE = "recommendation.parquet"


@dataclass(frozen=True)
class Recommendation(Shown):
    """Every remedy, judged on combinations and patients of training that were left out; MeDi where it had models there.

    judged: the table and the choice (`medi.evaluation.recommend.Judged`); rows: training patches; opened: whether the
    true hold-out was opened, and the regret of the choice can be told.

    >>> row = {"set": "real", "head": "two_way", "value": 0.8, "gain": 0.1, "gain_low": -0.02, "gain_high": 0.2}
    >>> found = Recommendation(Judged(pd.DataFrame([row]).assign(true=0.7, needs="", reason="")), (), "", 40)
    >>> found.title.partition(":")[0]
    'No remedy is worth it'
    """

    judged: Judged
    over: tuple[str, ...]
    encoder: str
    rows: int
    opened: bool = False

    @property
    def title(self) -> str:
        """The recommendation, in a sentence."""
        return recommended(self.judged.table)

    @property
    def remarks(self) -> tuple[str, ...]:
        said = [f"{self.judged.reason}."] if self.judged.reason else []
        said.append("Levels are those of smaller training sets; the order is what counts.")
        return (*said, *(regretted(self.judged.table) if self.opened else []))

    def to_frame(self) -> pd.DataFrame:
        """A row per remedy, the best first; MeDi's says that it is not judged, where it had no models."""
        return self._rows().drop(columns=["needs"] if self.opened else ["needs", "true"])

    def figure(self) -> Drawing:
        """Mean recall on what was left out with intervals, a row per head, a block per training set."""
        rows = self.judged.table.rename(columns={"head": "arm"}).assign(axis="value")
        rows = rows.assign(group=rows["set"].map(arm_name))
        return forest(rows, [Axis("value", "left out of training", "mean recall")], called=head_name)

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write recommendation.parquet; returns the folder."""
        write_table(Path(folder) / FILE, self.to_frame().assign(needs=self._rows()["needs"]))
        return Path(folder)

    def _rows(self) -> pd.DataFrame:
        table = self.judged.table
        if MEDI in set(table["set"]):
            return table
        own = pd.DataFrame([{"set": MEDI, "head": "", "needs": "a generator", "reason": NOT_JUDGED}])
        return pd.concat([table, own], ignore_index=True)[list(table.columns)]


def recommend(
    real: Given,
    *,
    over: Sequence[str] | None = None,
    sets: Sequence[str] = (),
    heads: Sequence[str] = (),
    encoder: str | Encoder = ENCODER,
    features: str | Path | None = None,
    with_models: "InnerModels | None" = None,
    open_holdout: bool = False,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: Show | None = None,
) -> Recommendation:
    """Which remedy fits this cohort, judged without its test patches.

    A remedy is a training set under a head: real patches as they are or stain-normalised (`SETS`), under every head of
    `medi.evaluation.classify.heads`. Combinations of the training patches are left out again, each once at most, and a
    part of the patients of the others; every remedy must tell the classes there. Its gain is counted from real patches
    under the logistic head, with an interval from resampled patients. Nothing is recommended where that interval holds
    zero.

    real: a cohort with the split of a hold-out; features: a file or folder in place of images. sets: names of `SETS`,
    `USUAL_SETS` by default; heads: names, all by default. with_models: also train a MeDi model for each inner hold-out,
    on what it keeps alone, and judge real patches with its images beside the others, also after each stain
    normalisation of `sets`; without it MeDi is not judged.
    open_holdout: also open the true hold-out and tell the regret of the choice; do so once. MediError for unknown
    names, for a cohort without a split, and where models are asked for and there are no images. Source: this project
    (`medi.evaluation.recommend`).

    >>> import medi
    >>> cohort = medi.phantom(patches=600, seed=0).hold_out(over=["class", "site"], rate=0.1, seed=0)
    >>> found = medi.recommend(cohort, sets=["real"], heads=["logistic"])
    >>> found.judged.best["head"], found.judged.is_worth_it
    ('logistic', False)
    """
    show = progress or Silent()
    cohort, columns = judged_cohort(real, over, features, show)
    extractor, train = encoder_of(encoder, {REAL: cohort}), cohort.where(split=TRAIN)
    check_heads(heads)
    wanted = wanted_sets(sets, is_given(extractor))
    tests = tested_parts(cohort, columns) if open_holdout else {}
    check([Arm(REAL, bare(train))], {name: bare(part) for name, part in tests.items()}, columns)
    if with_models is not None:
        with_models.check(train)
    rows = embedded({REAL: train, **tests}, extractor, cache, show)
    tested = {name: found for name, found in rows.items() if name != REAL}
    arms = [Arm(REAL, rows[REAL])] if REAL in wanted else []
    arms += stained_sets(train, rows[REAL], tests, extractor, [name for name in wanted if name != REAL], seed, show)
    made: list[Generated] = []
    if with_models is not None:
        stains = [name for name in wanted if name != REAL]
        made = with_models.generated(train, columns, extractor, seed, open_holdout, cache, show, stains)
    with show.bars("remedies") as (advance,):
        draws = None if with_models is None else with_models.draws
        judged = judge(arms, columns, seed, heads, tested or None, advance, made, draws)
    return Recommendation(judged, columns, extractor.label, len(train), open_holdout)


def cost_of_models(
    real: Given,
    models: "InnerModels",
    over: Sequence[str] | None = None,
    features: str | Path | None = None,
    open_holdout: bool = False,
    seed: int = 0,
) -> str:
    """What `recommend` would train and sample for these arguments, and how long that takes here, in a sentence."""
    cohort, columns = judged_cohort(real, over, features)
    train = cohort.where(split=TRAIN)
    models.check(train)
    return models.cost(train, columns, seed, open_holdout)


def judged_cohort(
    real: Given, over: Sequence[str] | None, features: str | Path | None = None, show: Show | None = None
) -> tuple[Cohort, tuple[str, ...]]:
    """The patches with a class of a cohort that has training patches, and the columns whose combinations count."""
    cohort = with_class(REAL, cohort_of(real, features), show or Silent())
    columns = columns_of(cohort, over)
    if not is_split(cohort):
        raise MediError("no patch is for training: hold out combinations first (`medi holdout`, Cohort.hold_out)")
    return cohort, columns


def wanted_sets(sets: Sequence[str], has_no_images: bool) -> list[str]:
    """The training sets to try; real patches are always among them."""
    if unknown := [name for name in sets if name not in SETS]:
        raise MediError(f"set {unknown[0]!r} is unknown; known: {', '.join(SETS)}{did_you_mean(unknown[0], SETS)}")
    known = (REAL,) if has_no_images else SETS
    return [name for name in known if name == REAL or name in (sets or USUAL_SETS)]


def stained_sets(
    train: Cohort,
    real: Embedded,
    tests: dict[str, Cohort],
    extractor: Encoder,
    names: Sequence[str],
    seed: int,
    show: Show,
) -> list[Arm]:
    """Stain-normalised sets of the same training patches, with test patches of their own."""
    if not names:
        return []
    with show.bars("staining") as (advance,):
        return stain_arms(train, real, tests, extractor, seed, names, advance)
