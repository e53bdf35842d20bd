"""The number of threads is none of the things that decide a figure (P3)."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from medi.cohort import phantom
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.encoders import COLOUR_TEXTURE, embed
from medi.evaluation.features import Embedded

cohort = phantom.cohort(seed=3, patches=250)
every = Embedded(embed(cohort, COLOUR_TEXTURE), cohort.table)
tested = cohort.table["patient"].isin(sorted(set(cohort.table["patient"]))[::2]).to_numpy()
tests = {"seen": every.take(tested)}
table = study_arms(every.take(~tested), {}, tests, over=("class", "site"), seed=0, only=["none"])["utility"]
assert table["value"].notna().mean() > 0.5
sys.stdout.write(table["value"].to_numpy().tobytes().hex())
"""


@pytest.mark.slow
def test_one_and_two_threads_give_the_same_accuracies_p3() -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", CODE],
            env={**os.environ, "OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for n in ("1", "2")
    ]
    assert len(found[0]) > 500
    assert found[0] == found[1]
