"""Does an encoder see the disease or the hospital? `medi.robustness`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medi.api.given import Given, cohort_of, embedded, encoder_of
from medi.api.refusing import with_class
from medi.cohort.combinations import over as crossed
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.locks import holding
from medi.core.progress import Show, Silent
from medi.core.reference_points import READING, TCGA_4X4
from medi.core.showing import Shown
from medi.core.tables import ROBUSTNESS
from medi.evaluation.encoders import Encoder
from medi.evaluation.features import REAL
from medi.evaluation.robustness import note_of
from medi.evaluation.robustness import robustness as measured

ENCODER = "colour-texture"


@dataclass(frozen=True)
class Robustness(Shown):
    """How far the features of an encoder follow the class and not a site.

    table: metric, encoder, arm, attribute, value, n_real, n_slides, n_patients, reason; a row per figure. notes: which
    patches were left out.

    >>> import medi
    >>> from medi.cohort import phantom
    >>> combinations = [(name, site) for name in ("acinar", "spindle") for site in ("Alder", "Birch")]
    >>> found = medi.robustness(phantom.fresh(combinations, 8, 0, "real", patches_per_slide=2))
    >>> found.to_frame()["metric"].tolist()[:3]
    ['ri', 'ri_k', 'ri_support']
    """

    table: pd.DataFrame
    attribute: str
    encoder: str
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"Robustness of {self.encoder.split(' ')[0]} to {self.attribute}"

    @property
    def remarks(self) -> tuple[str, ...]:
        named = ", ".join(f"{name} {values['croma']:.3f}" for name, values in TCGA_4X4.items())
        found = self.table[self.table["reason"] != ""]
        reasons = [f"{', '.join(rows['metric'])}: {why}" for why, rows in found.groupby("reason", sort=False)]
        return (*self.notes, *reasons, f"CRoMa's median on TCGA-4x4, to compare with: {named}")

    def to_frame(self) -> pd.DataFrame:
        """A row per figure: what it is, how it is read."""
        rows = self.table[["metric", "value"]]
        return rows.assign(reading=rows["metric"].map(READING)).reset_index(drop=True)

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write robustness.parquet; returns the folder."""
        ROBUSTNESS.write(Path(folder), self.table)
        return Path(folder)


def robustness(
    real: Given,
    /,
    *,
    attribute: str | Sequence[str] | None = None,
    encoder: str | Encoder = ENCODER,
    features: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: Show | None = None,
) -> Robustness:
    """RI, MaRI, CRoMa, the clustering score, APD and nIPD of an encoder on your cohort.

    attribute: what should not matter, one or several columns; by default the first that is not a number. features: of
    `real`, a file or folder in place of images. Neighbours of the same patient, else slide, are left out. What is not
    defined is NaN with a reason: CRoMa needs neighbours of both kinds for every patch, APD and nIPD need two classes at
    the same two sites with five patients each.

    MediError where there is no such column, or neither image nor feature. Source: Koemen et al., arXiv 2507.17845
    (PathoROB), and Grisi et al., arXiv 2607.25497 (croma).

    >>> from medi.cohort import phantom
    >>> combinations = [(name, site) for name in ("acinar", "spindle") for site in ("Alder", "Birch")]
    >>> found = robustness(phantom.fresh(combinations, 8, 0, "real", patches_per_slide=2))
    >>> found.table.set_index("metric")["value"]["croma"].item() < 0  # colour and texture show the site
    True
    """
    show = progress or Silent()
    cohort = with_class(REAL, cohort_of(real, features), show)
    names, extractor = _columns(cohort, attribute), encoder_of(encoder, {REAL: cohort})
    rows = embedded({REAL: cohort}, extractor, cache, show)[REAL]
    found = measured(rows, ("class", *names), seed=seed).assign(encoder=extractor.label)
    notes = note_of(rows, ("class", *names))
    return Robustness(found, " x ".join(names), extractor.label, (notes,) if notes else ())


def _columns(cohort: Cohort, attribute: str | Sequence[str] | None) -> tuple[str, ...]:
    given = [attribute] if isinstance(attribute, str) else list(attribute or [])
    names = tuple(a.name for a in crossed(cohort.schema, given) if a.name != "class")
    if not names:
        raise MediError("no attribute is known whose traces could be sought; read the cohort with --attributes")
    return names
