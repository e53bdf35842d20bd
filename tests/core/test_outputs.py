"""Refusals name what differs in words: no hash, no None."""

from pathlib import Path

import pytest

from medi.core.errors import MediError
from medi.core.outputs import in_words, refuse_other, shown

OLD, NEW = "3fa1c29be07d4415", "9bc0d1e2f3a45566"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seed", 0, 1), "seed (0, now 1)"),
        (("seed", 123456789012, 1), "seed (123456789012, now 1)"),
        (("recipe.early_average", None, 800), "recipe.early_average (not set, now 800)"),
        (("recipe.early_average", 800, None), "recipe.early_average (800, now not set)"),
        (("data", OLD, NEW), "cohort (other rows, pixels or hold-out)"),
        (("info.packing.recipe", OLD, NEW), "cohort (other rows, pixels or hold-out)"),
        (("model", OLD, NEW), "model"),
        (("autoguidance_model", "", NEW), "model of autoguidance"),
        (("good", OLD, NEW), "cohort good (other rows, pixels or hold-out)"),
    ],
)
def test_a_change_is_said_in_words(change: tuple, words: str) -> None:
    """Defect: "another data (3fa1c29be07d4415, now 9bc0d1e2f3a45566)", and "None" for what is not set."""
    assert in_words([change, change], "{name} ({old}, now {new})", cohorts=["good"]) == [words]


def test_tables_of_another_cohort_are_refused_in_words() -> None:
    request = {"cohorts": ["real", "good"], "real": OLD, "good": OLD, "over": None, "n": 100}
    with pytest.raises(MediError) as error:
        refuse_other(Path("f"), "result of medi fidelity", request, {**request, "good": NEW, "n": 50})
    text = "another cohort good (other rows, pixels or hold-out); n 100, now 50"
    assert str(error.value) == f"f: holds another result of medi fidelity: {text}; choose another --out, or delete it"


def test_values_are_shown_as_they_are_written() -> None:
    assert [shown(value) for value in (None, 3, "a")] == ["not set", "3", "'a'"]
