"""The learned encoder tells what it was taught on other slides, the same for the same seed, from one safe file."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.evaluation.encoders.learned import LearnSettings, learn, load

COMBINATIONS = [(name, site) for name in ("solid", "spindle") for site in ("Alder", "Birch")]
SMALL = LearnSettings(widths=(16, 32), dimension=16, images=4_096, batch=32)


@pytest.fixture(scope="module")
def patches() -> Cohort:
    return phantom.fresh(COMBINATIONS, 40, 0, "learned")


@pytest.fixture(scope="module")
def path(patches: Cohort, tmp_path_factory) -> Path:
    return learn(patches, tmp_path_factory.mktemp("learned") / "a.safetensors", 0, SMALL)


@pytest.mark.slow
def test_class_and_site_are_read_from_its_features_on_other_slides(path: Path, patches: Cohort) -> None:
    encoder, test = load(path), phantom.fresh(COMBINATIONS, 24, 1, "learned test")
    x, y = encoder.encode(patches.images[:]), encoder.encode(test.images[:])
    assert x.shape == (160, 16)
    for name in ("class", "site"):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, patches.table[name])
        assert probe.score(y, test.table[name]) > {"class": 0.7, "site": 0.9}[name], name


@pytest.mark.slow
def test_same_seed_same_numbers_same_hash_whatever_the_batch_p2(path: Path, patches: Cohort, tmp_path: Path) -> None:
    again, other = learn(patches, tmp_path / "b", 0, SMALL), learn(patches, tmp_path / "c", 1, SMALL)
    assert load(again).hash == load(path).hash != load(other).hash
    images = patches.images[:]
    np.testing.assert_allclose(load(path).encode(images)[:7], load(path).encode(images[:7]), atol=1e-5)


@pytest.mark.slow
def test_what_cannot_be_learned_or_read_is_one_clear_error(patches: Cohort, path: Path, tmp_path: Path) -> None:
    one = patches.where(**{"class": "solid", "site": "Alder"}).with_columns(group="")
    with pytest.raises(MediError, match="two levels or more"):
        learn(one, tmp_path / "x", 0, SMALL)
    with pytest.raises(MediError, match="too small for 6 halvings"):
        learn(patches, tmp_path / "x", 0, LearnSettings(widths=(8,) * 6))
    (tmp_path / "cut").write_bytes(path.read_bytes()[:500])
    with pytest.raises(MediError, match="is damaged, or was changed after it was written"):
        load(tmp_path / "cut")
