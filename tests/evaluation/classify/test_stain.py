"""Stain: the phantom's stains are known, blank tiles come back, and draws follow from seed and sample id (P3)."""

import numpy as np
import pytest

from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.evaluation.classify.stain import NO_STAIN, HedJitter, Macenko, RandomStain, Reinhard
from medi.evaluation.classify.stained import stain_arms
from medi.evaluation.encoders import encoder
from medi.evaluation.features import Embedded

COMBINATIONS = [("solid", site) for site in ("Cedar", "Hazel")]
PATCHES = phantom.fresh(COMBINATIONS, 40, seed=0, stream="stain")
PALE, DARK = (PATCHES.where(site=site) for site in ("Hazel", "Cedar"))
BLANK = np.full((3, 32, 32, 3), 250, dtype=np.uint8)
FITS = {
    "macenko": Macenko.fit(DARK.images[:], 0),
    "reinhard": Reinhard.fit(DARK.images[:], 0),
    "hed": HedJitter(0),
    "random": RandomStain.fit(DARK.images[:], 0),
}


def apply(name: str, images: np.ndarray, first: int = 0) -> np.ndarray:
    return FITS[name].apply(images, [f"p{first + i}" for i in range(len(images))])


def test_macenko_finds_the_phantoms_stains() -> None:
    """Within 15 degrees of the vectors that rendered the patches."""
    for site, patches in (("Hazel", PALE), ("Cedar", DARK)):
        found = Macenko.fit(patches.images[:], 0).stains
        for vector, known in zip(found, (phantom.STAINS[site].haematoxylin, phantom.STAINS[site].eosin)):
            angle = np.degrees(np.arccos(vector @ known / np.linalg.norm(known)))
            assert angle < 15, (site, angle)


@pytest.mark.parametrize("name", ["macenko", "reinhard"])
def test_normalising_brings_one_laboratory_to_the_other(name: str) -> None:
    before = np.abs(PALE.images[:].mean(axis=(0, 1, 2)) - DARK.images[:].mean(axis=(0, 1, 2))).mean()
    after = np.abs(apply(name, PALE.images[:]).mean(axis=(0, 1, 2)) - DARK.images[:].mean(axis=(0, 1, 2))).mean()
    assert before > 25
    assert after < before / 3


def test_normalising_to_itself_changes_little() -> None:
    for name in ("macenko", "reinhard"):
        images = DARK.images[:]
        assert np.abs(apply(name, images).astype(int) - images).mean() < 12, name


@pytest.mark.parametrize("name", FITS)
def test_blank_tiles_come_back(name: str) -> None:
    """Glass, a few specks, and black, beside tissue."""
    specks = BLANK.copy()
    specks[:, :3, :3] = 60
    black = np.zeros_like(BLANK)
    np.testing.assert_array_equal(apply(name, BLANK), BLANK)
    np.testing.assert_array_equal(apply(name, specks), specks)
    np.testing.assert_array_equal(apply(name, np.concatenate([black, DARK.images[:2]]))[: len(black)], black)
    grey = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1)).repeat(3, axis=3).astype(np.uint8)
    np.testing.assert_array_equal(apply(name, grey), grey)


@pytest.mark.parametrize("name", FITS)
def test_a_patch_is_the_same_beside_others(name: str) -> None:
    """P3: by seed and sample id, never by place or batch."""
    images = PATCHES.images[:12]
    whole = apply(name, images)
    np.testing.assert_array_equal(apply(name, images[5:7], first=5), whole[5:7])


@pytest.mark.parametrize("name", ["hed", "random"])
def test_augmentation_varies_colour_and_keeps_tissue(name: str) -> None:
    images = np.repeat(DARK.images[:1], 30, axis=0)
    varied = apply(name, images)
    assert varied.mean(axis=(1, 2)).std(axis=0).mean() > 3
    dark = images[0].mean(axis=2).ravel()
    assert min(np.corrcoef(dark, image.mean(axis=2).ravel())[0, 1] for image in varied) > 0.9
    other = HedJitter(1).apply(images, [f"p{i}" for i in range(30)])
    assert (other != apply("hed", images)).any()


def test_no_tissue_at_all_is_one_clear_error() -> None:
    for kind in (Macenko, Reinhard, RandomStain):
        with pytest.raises(MediError, match="no stained tissue in the training patches"):
            kind.fit(BLANK, 0)


def test_a_cohort_without_stain_gives_arms_with_a_reason() -> None:
    """P7: black and white patches came out as coloured tissue; the other arms are still compared."""
    plain = Cohort(PATCHES.table, PATCHES.schema, Pixels.of(np.zeros((len(PATCHES), 32, 32, 3), dtype=np.uint8)))
    real = Embedded(np.zeros((len(plain), 67)), plain.table)
    arms = stain_arms(plain, real, {"seen": plain}, encoder("colour-texture"), 0, ["macenko"], more={"medi": plain})
    assert [(arm.name, arm.reason) for arm in arms] == [("macenko", NO_STAIN), ("medi_macenko", NO_STAIN)]
