"""What `medi.fidelity` and `medi.utility` return: tidy tables that show themselves, draw themselves and save."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort.table import Cohort
from medi.core.showing import Shown
from medi.core.tables import RESULTS
from medi.evaluation.features import Embedded
from medi.figures import Axis, Drawing, class_bars, forest

Mask = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Fidelity(Shown):
    """How near synthetic patches are to real ones, whether they show what was asked for, and whether they are new.

    tables: "fidelity", "control", "confusion" and, with synthetic patches, "memorisation" and "suspects", as
    `medi.core.tables` describes them. real: the embedded real patches; chosen [n]: those
    that distances are measured to. suspects: the pairs most alike, as a cohort of patches.
    """

    tables: Mapping[str, pd.DataFrame]
    over: tuple[str, ...]
    encoder: str
    real: Embedded
    chosen: Mask
    suspects: Cohort | None = None

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

    tables: "utility" and "curves", as `medi.core.tables` describes them, with a column `task`. rows: real training
    patches.
    """

    tables: Mapping[str, pd.DataFrame]
    over: tuple[str, ...]
    encoder: str
    head: str
    rows: int

    @property
    def title(self) -> str:
        return f"Balanced accuracy by training set ({self.encoder.split(' ')[0]}, head {self.head})"

    def to_frame(self) -> pd.DataFrame:
        """Balanced accuracy, a row per task and training set, a column per test split."""
        return _wide(self._accuracies, ["task", "arm"], "split")

    def figure(self) -> Drawing:
        """Balanced accuracy of each training set with its interval, a column per test split, as a matplotlib figure."""
        rows = self._accuracies
        several = rows["task"].nunique() > 1
        axes = [Axis(str(split), str(split).replace("_", " "), "balanced accuracy") for split in rows["split"].unique()]
        return forest(rows.assign(axis=rows["split"], group=rows["task"] if several else ""), axes)

    def save(self, folder: str | Path) -> Path:
        """Write the tables; returns the folder."""
        return _save(Path(folder), self.tables)

    @property
    def _accuracies(self) -> pd.DataFrame:
        table = self.tables["utility"]
        return table[table["metric"].eq("balanced_accuracy") & table["scope"].eq("all")]


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
