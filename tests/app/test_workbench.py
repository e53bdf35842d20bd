"""What a run folder offers: valid levels, never-seen combinations, real patches, nearest training patches."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import tiny_run
from medi.app.workbench import Workbench
from medi.core.errors import MediError


def test_models_and_their_levels(bench: Workbench) -> None:
    """P1: levels come from the checkpoint; "not known" is offered only where the model has learned it."""
    assert list(bench.models) == ["medi", "cls"], "the one that knows most comes first"
    site, grade = bench.first.schema.attribute("site"), bench.first.schema.attribute("grade")
    assert bench.first.levels(site) == list(tiny_run.SITES)
    assert bench.first.levels(grade) == ["1", "2", ""]
    assert bench.crossed == "site"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "medi/../cls", ""])
def test_a_model_is_named_and_never_a_path(name: str, bench: Workbench) -> None:
    """P11: the app opens nothing outside its run folder."""
    with pytest.raises(MediError, match="is unknown; known: medi, cls"):
        bench.model(name)


def test_never_seen_combinations_are_known(bench: Workbench) -> None:
    site = bench.first.schema.attribute("site")
    assert bench.unseen_levels(bench.first, site, "LUSC") == ["Rowan"]
    assert bench.unseen_levels(bench.first, site, "LUAD") == []
    assert bench.trained(bench.first, {"class": "LUSC", "site": "Rowan"}) == 0
    assert bench.counts.loc["LUSC", "Rowan"] == 0
    assert bench.counts.to_numpy().sum() == len(bench.training)


def test_real_patches_are_those_of_training_or_else_said_to_be_kept(bench: Workbench) -> None:
    seen = bench.real({"class": "LUAD", "site": "NA"}, 16)
    assert seen is not None
    assert seen.what == "training patches"
    assert set(seen.table["site"]) == {"NA"}
    assert seen.table["slide"].nunique() == min(
        16, bench.training.where(**{"class": "LUAD", "site": "NA"}).table["slide"].nunique()
    )
    kept = bench.real({"class": "LUSC", "site": "Rowan"}, 16)
    assert kept is not None
    assert kept.what == "real patches that training never saw"
    assert set(kept.table["split"]) == {"test_unseen"}


def test_conditions_that_nothing_real_has_are_let_go_from_the_last(bench: Workbench) -> None:
    found = bench.real({"class": "LUAD", "site": "NA", "grade": "2"}, 4)
    assert found is not None
    assert found.conditions == {"class": "LUAD", "site": "NA"}


def test_samples_of_the_study(bench: Workbench) -> None:
    found = bench.made(bench.first, {"class": "LUSC", "site": "Rowan"}, 16)
    assert found is not None
    assert len(found.images) == 3
    assert bench.made(bench.first, {"class": "LUSC", "site": "Mars"}, 16) is None


def test_a_training_patch_is_its_own_nearest_one(bench: Workbench) -> None:
    images = bench.training.images[:5]
    found = bench.nearest(images)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_allclose(found.distances, 0, atol=1e-6)
    other = bench.nearest(255 - images)
    assert (other.distances > 1).all(), "farther than a training patch is from those of other slides"


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("run.json", "no run to show"),
        ("holdout/certificate.json", "no run to show"),
        ("models", "no trained model yet"),
    ],
)
def test_a_folder_without_a_run_is_refused(lost: str, words: str, run_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    path = copy / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MediError, match=words):
        Workbench(copy, tmp_path)
