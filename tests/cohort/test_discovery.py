"""Acquisition groups from the images alone: found where there are some, one where there is one, fitted on training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.acquisition import statistics
from medi.cohort.optics import STAINS
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError

SLIDES, SIZE = 32, 16
SCANNERS = {"sharp": (1.0, 0.3), "soft": (0.5, 0.9)}  # shares of haematoxylin and eosin


def cohort(*scanners: str, slides: int = SLIDES) -> Cohort:
    """Two patches a slide; scanners in turn, the class tells nothing of them."""
    rng, images, rows = np.random.default_rng(0), [], []
    for slide in range(slides):
        name = scanners[slide % len(scanners)]
        stain = (np.array(SCANNERS[name]) * np.exp(0.05 * rng.normal(size=2))) @ STAINS
        for patch in range(2):
            density = np.exp(0.3 * rng.normal(size=(SIZE, SIZE, 1))) * stain
            if name == "soft":
                density = (density + np.roll(density, 1, axis=0)) / 2
            images.append(256 * np.exp(-density) - 1)
            rows.append((f"s{slide}-{patch}", "AB"[slide // 2 % 2], f"p{slide}", f"s{slide}", name))
    table = pd.DataFrame(rows, columns=["sample_id", "class", "patient", "slide", "scanner"])
    pixels = Pixels.of(np.stack(images).clip(0, 255).astype(np.uint8))
    return Cohort(table, Schema.infer(table, []), pixels)


@pytest.fixture(scope="module")
def two() -> Cohort:
    return cohort("sharp", "soft").discover()


@pytest.mark.slow
def test_two_scanners_are_two_groups_that_say_what_they_are(two: Cohort) -> None:
    assert set(two.table["derived"]) == {"derived 1", "derived 2"}
    assert adjusted_rand_score(two.table["scanner"], two.table["derived"]) == 1
    assert "2 acquisition groups, by colour and sharpness of 32 slides (all patches, stability 1.00)" in two.notes[0]
    note = next(note for note in two.audit().notes if note.startswith("derived: groups"))
    assert "may be biology; class from derived, without the image: balanced accuracy 0." in note
    split = two.hold_out(over=["class", "derived"], rate=0.25, seed=0)
    assert split.holdout.certificate["columns"] == ["class", "derived"]
    with pytest.raises(MediError, match="has a column 'derived' already"):
        two.discover()


@pytest.mark.slow
def test_groups_are_fitted_on_training_patches_alone_p5() -> None:
    """Test patches of a third kind change nothing of the training slides' groups, and get one of them."""
    whole = cohort("sharp", "soft", slides=40)
    tests = whole.table["slide"].str[1:].astype(int) >= SLIDES
    split = whole.with_columns(split=np.where(tests, "test_seen", "train"))
    images = whole.images[:].copy()
    images[tests.to_numpy()] = images[tests.to_numpy()][..., ::-1]
    odd = Cohort(split.table, split.schema, Pixels.of(images)).discover()
    plain = split.discover()
    assert odd.info["derived"] == plain.info["derived"]
    assert odd.info["derived"]["patches"] == "training"
    assert odd.info["derived"]["slides"] == SLIDES
    pd.testing.assert_series_equal(odd.table["derived"][~tests], plain.table["derived"][~tests])
    assert set(odd.table["derived"][tests]) <= {"derived 1", "derived 2"}


@pytest.mark.slow
def test_one_scanner_is_one_group_and_no_column() -> None:
    found = cohort("sharp").discover()
    assert "derived" not in found.table
    assert found.info["derived"]["groups"] == 1
    assert "no acquisition groups found" in found.notes[0]


@pytest.mark.slow
def test_sites_of_the_phantom_are_found_and_one_site_is_one_group() -> None:
    """Sites, not classes: the figures themselves are benchmarks/results/discover.json."""
    pairs = [(c, s) for c in phantom.CLASSES[:2] for s in ("Alder", "Hazel")]
    found = phantom.fresh(pairs, 27, 0, "two", patches_per_slide=3).discover()
    assert adjusted_rand_score(found.table["site"], found.table["derived"]) > 0.9
    assert abs(adjusted_rand_score(found.table["class"], found.table["derived"])) < 0.1
    alone = phantom.fresh([(c, "Alder") for c in phantom.CLASSES], 24, 0, "alone", patches_per_slide=3).discover()
    assert alone.info["derived"]["groups"] == 1


def test_patients_stand_in_for_slides_and_glass_says_nothing() -> None:
    images = cohort("sharp", slides=1).images[:]
    glass = np.full_like(images, 250)
    assert np.isfinite(statistics(images)).all()
    assert np.isnan(statistics(glass)).all()
    few = cohort("sharp", slides=4).with_columns(slide="")
    with pytest.raises(MediError, match="4 slides show tissue, and 30 are needed to look for acquisition groups"):
        few.discover()
    with pytest.raises(MediError, match="0 slides show tissue, and 30 are needed"):
        few.with_columns(patient="").discover()
    with pytest.raises(MediError, match="patches of 8 x 8 px are too small: 16 px are needed"):
        statistics(images[:, :8, :8])


@pytest.mark.slow
def test_from_a_table_of_images_to_groups_by_the_documented_command(medi: Medi, tmp_path: Path) -> None:
    made = cohort("sharp", "soft")
    (tmp_path / "images").mkdir()
    for name, image in zip(made.table["sample_id"], made.images[:]):
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    table = made.table.assign(image="images/" + made.table["sample_id"] + ".png").drop(columns=["sample_id", "scanner"])
    table.to_csv("patches.csv", index=False)
    asked = ("audit", "patches.csv", "--label", "class", "--discover", "--out", "a")
    (tmp_path / "images" / "s3-0.png").write_bytes(b"no image")
    refused(medi(*asked), "s3-0.png: no image format that is known here; mend it")
    assert not Path("a").exists()
    shown = fine(medi(*asked, "--on-error", "skip"))
    assert "s3-0.png: no image format" in shown
    assert "derived: 2 acquisition groups, by colour and sharpness of 32 slides" in shown
    assert "class from derived, without the image" in shown
    assert set(Cohort.load("a").table["derived"]) == {"derived 1", "derived 2"}
    refused(medi("audit", "a", "--discover", "--out", "b"), "has a column 'derived' already")
