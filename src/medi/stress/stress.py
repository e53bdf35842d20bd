"""What does a classifier do when only the hospital changes? Its patches are translated to every level of an attribute.

They are translated back to their own as well: what changes there is the noise of the method, the floor.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.locks import holding
from medi.core.progress import Advance, unheard
from medi.models.checkpoint import load_checkpoint
from medi.sampling.transfer import TransferSettings, at_levels, transfer
from medi.stress.classifiers import Classifier
from medi.stress.measuring import Asked
from medi.stress.results import StressResults, answered, refuse_another, worst_of


@holding("out")
def stress(
    classifier: Classifier,
    model: str | Path,
    cohort: Cohort,
    attribute: str,
    levels: Sequence[str],
    out: str | Path,
    settings: TransferSettings | None = None,
    progress: Advance = unheard,
    seed: int = 0,
) -> StressResults:
    """Question a classifier on a packed cohort.

    Writes out/transferred (resumable), the tables, worst, results.json and stress.html. The classifier sees the patches
    first, so that one that raises or returns the wrong shape stops at once.
    """
    out, schema = Path(out), load_checkpoint(Path(model)).schema
    refuse_another(out, {"classifier": classifier.name, "classes": classifier.classes, "attribute": attribute})
    before = classifier.probabilities(cohort.images[:])
    rows = _rows(cohort, schema, attribute, levels)
    made = transfer(Path(model), cohort, rows, out / "transferred", settings or TransferSettings(), progress)
    if made is None:
        raise MediError(f"{out}: other processes still transfer patches; run again when they have ended")
    source = pd.Index(cohort.table["sample_id"]).get_indexer(made.table["source"]).astype(np.int64)
    own = (made.table[attribute] == made.table["translated_from"]).to_numpy(dtype=bool)
    after = classifier.probabilities(made.images[:])
    asked = Asked(classifier.classes, cohort.table, before, made.table, after, source, own)
    worst = worst_of(asked, attribute, made.schema.restrict([attribute]), (cohort.images, made.images))
    return answered(asked, classifier.name, attribute, out, worst, seed)


def _rows(cohort: Cohort, schema: Schema, attribute: str, levels: Sequence[str]) -> pd.DataFrame:
    """Every patch at the wanted levels and at its own."""
    schema.attribute(attribute).encode(list(levels))
    if attribute not in cohort.table:
        raise MediError(f"the patches lack the column {attribute!r}: without their own level nothing can be inverted")
    every = [*levels, *sorted(set(cohort.table[attribute]) - set(levels))]
    rows = at_levels(cohort, schema, attribute, every, own=True)
    wanted = rows[attribute].isin(levels) | (rows[attribute] == rows["translated_from"])
    return rows[wanted].reset_index(drop=True)
