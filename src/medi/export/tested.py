"""What is known of a model before it leaves the house: do its images repeat training patches?

`medi fidelity` and a study write the table of memorisation with the hash of the model that made each set of images. The
table is looked for in the model's folder, in the folders beside it, and in the run that it is a part of.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medi.core.claims import COPIES, LEAKS
from medi.core.errors import MediError
from medi.core.files import read_table
from medi.core.tables import MEMORISATION, upgraded
from medi.models.checkpoint import model_hash

FILE, OLD_FILE = (f"{name}.parquet" for name in (MEMORISATION.name, MEMORISATION.old_name))
NONE = (
    "no test for memorisation of this model lies beside it or in its run; `medi fidelity REAL medi=SAMPLES`, with "
    "images of this model, writes one"
)
SAID = {
    "copy_rate": ("count as copies of training patches", COPIES),
    "slide_leak": ("are like one training slide", LEAKS),
}


@dataclass(frozen=True)
class Tested:
    """The rates of one model; `reason` says why there is none of copies, "" where it is known."""

    reason: str
    folder: Path | None = None
    rates: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def lines(self) -> list[str]:
        """The result in sentences, each rate beside what fresh real patches have."""
        if self.reason:
            return [f"Not tested: {self.reason}."]
        rows: Any = self.rates.itertuples()
        return [_sentence(row) for row in rows if row.metric in SAID and not np.isnan(row.value)]


def memorisation_of(model: Path) -> Tested:
    """The newest test for memorisation of the model in a file."""
    found = {path: rates for path, rates in _tables(model.absolute().parent, model_hash(model)) if len(rates)}
    if not found:
        return Tested(NONE)
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    rates = found[newest]
    copies = rates[rates["metric"] == "copy_rate"]
    reason = "; ".join(copies["reason"][copies["value"].isna()]) if len(copies) else "no copy rate was measured"
    return Tested(reason, newest.parent, rates)


def _tables(home: Path, made: str) -> Iterator[tuple[Path, pd.DataFrame]]:
    """The tables beside a model's folder and in its run, each with the rows that are of this model."""
    run = home.parent.parent / "tables"
    for path in (home / FILE, *home.parent.glob(f"*/{FILE}"), run / FILE, run / OLD_FILE):
        with suppress(MediError):  # it is not there; or another's, who may keep anything under this name
            table, is_run = upgraded(read_table(path)), path.parent == run
            own = table["origin"] == made if "origin" in table else (table["arm"] == home.name) & is_run
            yield path, table[own]


def check_tested(model: Path, found: Tested) -> None:
    """Refuse a model of which nobody knows whether its images are copies."""
    if found.reason:
        raise MediError(f"{model}: {found.reason}; --untested exports it without")


def _sentence(row: Any) -> str:
    words, expected = SAID[row.metric]
    limits = "" if np.isnan(row.low) else f" (95 %: {row.low:.1%} to {row.high:.1%})"
    return f"{row.value:.1%}{limits} of {row.n_synthetic:,} images {words}; of fresh real patches {expected:.0%} do."
