"""Patches side by side, as a person looks at them: classes across, levels of an attribute down."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medi.cohort.combinations import over as columns_of
from medi.cohort.table import Cohort, slides_in_turn
from medi.core.errors import MediError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(real: Cohort, synthetic: Cohort | None = None, over: Sequence[str] = (), each: int = 3) -> "Figure":
    """A figure of `each` patches of every combination of the class and one attribute, of as many slides as there are.

    real, synthetic: packed cohorts of one size with the columns `over`. MediError where sizes differ or pixels lack.
    """
    from medi.figures.patches import patch_grid

    class_, *places = (attribute.name for attribute in columns_of(real.schema, tuple(over)))
    sets = {"real": real} | ({} if synthetic is None else {"medi": synthetic})
    if len({cohort.images.size for cohort in sets.values()}) > 1:
        raise MediError("the real and the synthetic patches differ in size; pack both to one size")
    rows = places[0] if places else "source"
    parts = [_first(cohort, [class_, *places[:1]], each).assign(source=name) for name, cohort in sets.items()]
    images = [sets[name].images[part.index.to_numpy()] for name, part in zip(sets, parts)]
    return patch_grid(np.concatenate(images), pd.concat(parts, ignore_index=True), rows, class_)


def _first(cohort: Cohort, columns: list[str], each: int) -> pd.DataFrame:
    """The rows of `each` patches of every combination, slides in turn; the index is their place in the cohort."""
    table = cohort.table.iloc[slides_in_turn(cohort.table, columns)]
    return table[table.groupby(columns).cumcount() < each]
