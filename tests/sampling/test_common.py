"""The common change of many transfers: found where it is exactly one, the same for all patches of a pair, resumable."""

from pathlib import Path

import numpy as np
import pytest

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.sampling.common import Change, changes, spread, transfer_in_common
from medi.sampling.transfer import TransferSettings, at_levels, transfer

SETTINGS = TransferSettings(steps=2, batch=8)


@pytest.fixture
def known(cohort: Cohort) -> Cohort:
    """The patches whose site is known; tissue is no noise, so that a blur leaves something of it."""
    images = seeds.generator("tissue").integers(90, 200, (len(cohort), 4, 4, 3), dtype=np.uint8)
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    return Cohort(cohort.table, cohort.schema, Pixels.of(images)).where(site=["A", "B"])


def test_another_stain_and_focus_are_found(known: Cohort) -> None:
    """Oracle: patches whose densities were mixed, and blurred in part, by known weights; half of them scattered."""
    mixed = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.0, -0.1, 1.1]])
    truth = Change(np.concatenate([0.6 * mixed, 0.4 * mixed, [[0.02, 0.05, 0.01]]]))
    images = known.images[:]
    after = truth(images)
    found = Change.fit(images, after)
    assert np.abs(found(images).astype(int) - after).max() <= 2
    scattered = np.clip(after + np.where(np.arange(len(after)) % 2, 9, -9)[:, None, None, None], 0, 255)
    mean = Change.fit(images, scattered.astype(np.uint8))
    assert np.abs(mean(images).astype(int) - after).mean() < 3, "9 in each patch alone"


def test_many_slides_rather_than_many_patches(known: Cohort) -> None:
    drawn = spread(known, "site", 4, seed=0)
    assert drawn.table.groupby("site").size().to_dict() == {"A": 4, "B": 4}
    for _, rows in drawn.table.groupby("site"):
        assert rows["slide"].is_unique
    larger = spread(known, "site", 6, seed=0).table["sample_id"]
    assert set(drawn.table["sample_id"]) < set(larger)
    assert len(spread(known, "site", 99, seed=0)) == len(known)


@pytest.mark.slow
def test_all_patches_of_a_pair_change_alike(known: Cohort, denoiser: Denoiser, tmp_path: Path) -> None:
    """P12: a finished folder is read again; a patch at its own level stays as it is."""
    model = save_model(tmp_path / "m.safetensors", denoiser, Checkpoint.of(denoiser, images=0))
    rows = at_levels(known, known.schema, "site", ["A", "B"], own=True)
    made = transfer_in_common(model, known, rows, "site", tmp_path / "t", SETTINGS, learn_from=5)
    assert made.table["sample_id"].tolist() == rows["sample_id"].tolist()
    drawn = spread(known, "site", 5, seed=0)
    singles = transfer(model, drawn, at_levels(drawn, known.schema, "site", ["A", "B"]), tmp_path / "s", SETTINGS)
    found = changes(drawn, singles, "site")
    sources = known.table.set_index("sample_id").index.get_indexer(made.table["source"])
    before = known.images[sources]
    for i, (home, target) in enumerate(zip(made.table["translated_from"], made.table["site"])):
        expected = before[[i]] if home == target else found[home, target](before[[i]])
        np.testing.assert_array_equal(made.images[[i]], expected)
    assert (made.table["transfer"] == f"{SETTINGS}, in common of 5").all()
    again = transfer_in_common(model, known, rows, "site", tmp_path / "t", SETTINGS, learn_from=5)
    assert again.digest() == made.digest()
    with pytest.raises(MediError, match="holds images of another"):
        transfer_in_common(model, known, rows, "site", tmp_path / "t", SETTINGS, learn_from=4)


@pytest.mark.slow
def test_too_few_to_have_something_in_common(known: Cohort, denoiser: Denoiser, tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.safetensors", denoiser, Checkpoint.of(denoiser, images=0))
    rows = at_levels(known, known.schema, "site", ["B"])
    with pytest.raises(MediError, match="site A to B: 3 patches are too few to learn a common change from"):
        transfer_in_common(model, known, rows, "site", tmp_path / "t", SETTINGS, learn_from=3)
    assert not (tmp_path / "t" / "cohort.json").exists()
