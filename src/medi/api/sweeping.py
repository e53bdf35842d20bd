"""When does a remedy pay? Training sets under heads as class and site are confounded more and more: `medi.sweep`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from medi.api.given import Given, cohort_of, columns_of, embedded, encoder_of, is_given
from medi.api.recommending import stained_sets, wanted_sets
from medi.api.refusing import bare, with_class
from medi.cohort.confounding import confounded
from medi.cohort.table import Cohort, concatenate
from medi.core.claims import PRIMARY
from medi.core.files import write_atomic
from medi.core.locks import holding
from medi.core.progress import Show, Silent
from medi.core.showing import Shown
from medi.core.tables import SWEEP
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.crossed import check_heads
from medi.evaluation.classify.heads import HEADS
from medi.evaluation.classify.scoring import EVERY, REAL
from medi.evaluation.classify.sweep import STRENGTHS, TEST, swept
from medi.evaluation.classify.utility import check
from medi.evaluation.encoders import Encoder
from medi.evaluation.features import placed
from medi.evaluation.shortcuts import shortcut_figures
from medi.evaluation.splits import TRAIN, tested_parts
from medi.figures import Drawing, curves
from medi.figures.names import arm_name, head_name, known

NIPD = "nipd"


@dataclass(frozen=True)
class Sweep(Shown):
    """Mean recall of every training set under every head, at each strength of confounding.

    table: rows of the table `heads` with `strength` and `cramers_v`, and of "nipd" for each set; rows: training patches
    at each strength.

    >>> row = {"metric": "mean_recall", "split": "all", "arm": "real", "head": "crm", "value": 0.8, "cramers_v": 0.5}
    >>> Sweep(pd.DataFrame([row]).assign(strength=0.5, reason=""), ("class", "site"), "colour-texture", 40).to_frame()
      training set head  V = 0.5
    0    real only  CRM      0.8
    """

    table: pd.DataFrame
    over: tuple[str, ...]
    encoder: str
    rows: int

    @property
    def title(self) -> str:
        return f"Mean recall over combinations, by Cramer's V of class and site; {self.rows:,} training patches at each"

    @property
    def remarks(self) -> tuple[str, ...]:
        """nIPD of each set, or why there is none."""
        found = self.table[self.table["metric"] == NIPD]
        named = zip(found["arm"].astype(str).map(arm_name), found["value"], found["reason"])
        said = [f"nIPD of {arm}: {f'{value:.3f} ({why})' if known(value) else why}." for arm, value, why in named]
        return (*said, "0: the site misleads nobody; -0.5: a straight fall to chance.") if said else ()

    def to_frame(self) -> pd.DataFrame:
        """A row per training set and head, a column per strength."""
        wide = self._whole().pivot(index=["arm", "head"], columns="strength", values="value")
        wide = wide.loc[list(dict.fromkeys(zip(self._whole()["arm"], self._whole()["head"])))].reset_index()
        wide.columns = pd.Index(["training set", "head", *(f"V = {name:g}" for name in wide.columns[2:])])
        return wide.assign(**{"training set": wide["training set"].map(arm_name), "head": wide["head"].map(head_name)})

    def figure(self) -> Drawing:
        """Mean recall over Cramer's V: a panel per training set, a line per head; intervals stand in the table."""
        rows = self._whole().assign(x=self._whole()["cramers_v"], seed=0, low=np.nan, high=np.nan)
        rows = rows.assign(split=rows["arm"].map(arm_name), arm=rows["head"].map(head_name))
        return curves(rows, "Cramér’s V of class and site", "mean recall over combinations")

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write sweep.parquet and sweep.png; returns the folder."""
        SWEEP.write(Path(folder), self.table)
        write_atomic(Path(folder) / "sweep.png", partial(self.figure().savefig, format="png", dpi=150))
        return Path(folder)

    def _whole(self) -> pd.DataFrame:
        return self.table[(self.table["metric"] == PRIMARY) & (self.table["split"] == EVERY)]


def sweep(
    real: Given,
    *,
    over: Sequence[str] | None = None,
    sets: Sequence[str] = (),
    heads: Sequence[str] = (),
    strengths: Sequence[float] = STRENGTHS,
    encoder: str | Encoder = "colour-texture",
    features: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: Show | None = None,
) -> Sweep:
    """When does a remedy pay? Every set under every head, as training patches are confounded more and more.

    Training patches of a crossed cohort are drawn to each Cramer's V of `strengths`, as many for all, with the same
    margins (`medi.cohort.confounding`); the test patches stay. The oracle has other real patches beside, until each
    combination has as many as without confounding: what images could buy at best. nIPD of each set stands beside it.

    real: a cohort whose split holds patients out, and no combination; sets, heads, features as in `medi.recommend`.
    MediError where the training patches are not crossed enough, in one sentence. Source: this project; nIPD: Grisi et
    al., arXiv 2607.25497.

    >>> import medi
    >>> medi.sweep(medi.phantom(patches=100, seed=0).hold_out(over=["class", "site"], rate=0.1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    medi.core.errors.MediError: this cohort is not crossed enough to sweep confounding: ...
    """
    show = progress or Silent()
    cohort = with_class(REAL, cohort_of(real, features), show)
    columns, extractor = columns_of(cohort, over), encoder_of(encoder, {REAL: cohort})
    wanted = wanted_sets(sets, is_given(extractor))
    check_heads(heads)
    test = concatenate(list(tested_parts(cohort, columns).values()))
    train, test = (part.select(placed(part.table, columns)) for part in (cohort.where(split=TRAIN), test))
    check([Arm(REAL, bare(train))], {TEST: bare(test)}, columns)
    rows = len(confounded(train.table, columns, [0.0, *strengths], seed)[0])
    found = _swept(train, test, columns, wanted, heads, strengths, extractor, cache, seed, show)
    return Sweep(found, columns, extractor.label, rows)


def _swept(
    train: Cohort,
    test: Cohort,
    columns: tuple[str, ...],
    wanted: Sequence[str],
    heads: Sequence[str],
    strengths: Sequence[float],
    extractor: Encoder,
    cache: str | Path | None,
    seed: int,
    show: Show,
) -> pd.DataFrame:
    rows = embedded({REAL: train, TEST: test}, extractor, cache, show)
    arms = [Arm(REAL, rows[REAL])]
    arms += stained_sets(
        train, rows[REAL], {TEST: test}, extractor, [name for name in wanted if name != REAL], seed, show
    )
    with show.bars("confounding") as (advance,):
        table = swept(
            arms, rows[TEST], heads or list(HEADS), over=columns, seed=seed, strengths=strengths, progress=advance
        )
    told = [(arm.name, shortcut_figures(arm.rows, columns, seed=seed)) for arm in arms if not arm.reason]
    beside = [
        {"metric": one.metric, "arm": name, "value": one.value, "reason": one.reason, "n_real": len(train)}
        for name, figures in told
        for one in figures
        if one.metric == NIPD
    ]
    both = pd.concat([table, pd.DataFrame(beside).reindex(columns=table.columns)], ignore_index=True)
    return both.fillna(dict.fromkeys([*SWEEP.text], ""))
