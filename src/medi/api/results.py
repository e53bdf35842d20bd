"""What `medi.fidelity` and `medi.utility` return: tidy tables that show themselves, draw themselves and save."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort.table import Cohort
from medi.core.claims import PRIMARY
from medi.core.locks import holding
from medi.core.showing import Shown
from medi.core.tables import RESULTS
from medi.evaluation.features import Embedded
from medi.figures import Axis, Drawing, class_bars, forest
from medi.figures.names import split_title, splits_of
from medi.report.remedies import remedies
from medi.report.verdict import verdict

AS_GIVEN = "as-given"  # hash of features that were not made here
Mask = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Fidelity(Shown):
    """How near synthetic patches are to real ones, whether they show what was asked for, and whether they are new.

    tables: "fidelity", "control", "confusion" and, with synthetic patches, "memorisation" and "suspects", as
    `medi.core.tables` describes them. real: the embedded real patches; chosen [n]: those
    that distances are measured to. suspects: the pairs most alike, as a cohort of patches. remarks: what could
    not be compared of features that were given.

    >>> from medi.api.measures import fidelity
    >>> from medi.cohort import phantom
    >>> real = phantom.fresh([("acinar", "Alder"), ("solid", "Alder")], 16, 0, "real", patches_per_slide=4)
    >>> found = fidelity(real, n=8, draws=0)
    >>> sorted(found.tables), list(found.to_frame())
    (['confusion', 'control', 'fidelity'], ['scope', 'split', 'floor'])
    """

    tables: Mapping[str, pd.DataFrame]
    over: tuple[str, ...]
    encoder: str
    real: Embedded
    chosen: Mask
    suspects: Cohort | None = None
    remarks: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Whether another program made the features."""
        return self.encoder.endswith(AS_GIVEN)

    @property
    def title(self) -> str:
        return f"Frechet distance to real patches ({self.encoder.split(' ')[0]}); floor: other real patches"

    def to_frame(self) -> pd.DataFrame:
        """Mean Frechet distances, a row per scope and split, a column per set."""
        table = self.tables["fidelity"]
        rows = table[table["metric"].eq("frechet") & table["scope"].str.endswith("_mean")]
        return _wide(rows, ["scope", "split"])

    def figure(self) -> Drawing:
        """Frechet distance per class (Figure 3 of the paper): bars of the floor and of each set, for matplotlib."""
        table = self.tables["fidelity"]
        rows = table[table["metric"].eq("frechet") & table["scope"].eq("class")]
        return class_bars(rows)

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write the tables, embeddings.parquet of the real patches, and the cohort suspects/; returns the folder."""
        folder = Path(folder)
        self.real.save(folder / "embeddings.parquet")
        if self.suspects is not None:
            self.suspects.save(folder / "suspects")
        return _save(folder, self.tables)


@dataclass(frozen=True)
class Utility(Shown):
    """What one classifier on frozen features reaches with each training set.

    tables: "utility", "curves" and, with heads, "heads", as `medi.core.tables` describes them, with a column `task`.
    rows: real training patches. remarks: what could not be compared of features that were given.

    >>> from medi.api.measures import utility
    >>> from medi.cohort import phantom
    >>> real = phantom.fresh([("acinar", "Alder"), ("solid", "Alder")], 16, 0, "real", patches_per_slide=4)
    >>> odd = real.table["patient"].isin(sorted(set(real.table["patient"]))[::2])
    >>> found = utility(real.with_columns(split=odd.map({True: "test_seen", False: "train"})), arms="none")
    >>> found.to_frame()["arm"].tolist(), found.rows
    (['real', 'chance'], 12)
    """

    tables: Mapping[str, pd.DataFrame]
    over: tuple[str, ...]
    encoder: str
    head: str
    rows: int
    remarks: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Whether another program made the features."""
        return self.encoder.endswith(AS_GIVEN)

    @property
    def title(self) -> str:
        name = f"Mean recall over combinations, by training set ({self.encoder.split(' ')[0]}, head {self.head})"
        return " ".join([f"{name}.", *(said[0] for said in self.verdicts().values())])

    def verdicts(self) -> dict[str, list[str]]:
        """What may be claimed of each set of generated images, in sentences, by task (`medi.report.verdict`)."""
        return {task: verdict(table) for task, table in self._tasks()}

    def to_frame(self) -> pd.DataFrame:
        """A row per task and training set: mean recall over all combinations with its interval, and what is beside it.

        Columns as in `medi.report.remedies.remedies`; the last row of a task is chance.
        """
        parts = [remedies(table).assign(task=task) for task, table in self._tasks()]
        return pd.concat(parts, ignore_index=True).set_index("task").reset_index()

    def figure(self) -> Drawing:
        """Mean recall of each training set with its interval, a column per test split, as a matplotlib figure."""
        table = self.tables["utility"]
        rows = table[table["metric"].eq(PRIMARY) & table["scope"].eq("all")]
        chance = table[table["metric"].eq("chance")].drop_duplicates("split").set_index("split")["value"]
        several = rows["task"].nunique() > 1
        axes = [
            Axis(split, split_title(split), "mean recall", chance.get(split), "chance")
            for split in splits_of(rows["split"])
        ]
        return forest(rows.assign(axis=rows["split"], group=rows["task"] if several else ""), axes)

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write the tables; returns the folder."""
        return _save(Path(folder), self.tables)

    def _tasks(self) -> list[tuple[str, pd.DataFrame]]:
        return [(str(task), table) for task, table in self.tables["utility"].groupby("task", sort=False)]


def _save(folder: Path, tables: Mapping[str, pd.DataFrame]) -> Path:
    for name, table in tables.items():
        RESULTS[name].write(folder, table)
    return folder


def _wide(rows: pd.DataFrame, places: Sequence[str], across: str = "arm") -> pd.DataFrame:
    """A row per place, a column per value of `across`, in the order of the rows."""
    wide = rows.pivot(index=list(places), columns=across, values="value")
    order = pd.MultiIndex.from_frame(rows[list(places)].drop_duplicates())
    wide = wide.reindex(order)[list(dict.fromkeys(rows[across]))].reset_index()
    return wide.rename_axis(columns=None)
