"""The phantom cohort: keys decide every patch (P3), streams share nobody (P5), factors are separate and pinned."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medi.cohort import phantom
from medi.cohort.phantom import CLASSES, COMBINATIONS, SCANNERS, SITES, STAINS, Seeds, Stain, cohorts
from medi.cohort.table import Cohort, concatenate
from medi.core.errors import MediError
from medi.core.processes import Pool

PARAMETERS = "4b312796758e3363"
MEAN_COLOURS = [
    [183, 139, 188],
    [160, 82, 151],
    [151, 112, 183],
    [159, 125, 134],
]  # of one patch of four combinations


@pytest.fixture(scope="module")
def crossed() -> Cohort:
    return phantom.fresh(COMBINATIONS, 4, 0, "crossed", patches_per_slide=2)


@pytest.fixture(scope="module")
def collected() -> Cohort:
    return phantom.cohort(0, patches=300)


def mean_colours(cohort: Cohort) -> pd.DataFrame:
    return pd.DataFrame(cohort.images[:].reshape(len(cohort), -1, 3).mean(axis=1), columns=list("rgb"))


def filled(seed: int = 0) -> pd.DataFrame:
    """Counts, sites by classes, of the full design."""
    counts = pd.Series(cohorts._design_counts(4000)).unstack(fill_value=0).T
    return counts.loc[list(SITES), list(CLASSES)]


# --- keys ---


def test_a_patch_is_the_same_whatever_was_asked_beside_it_p3() -> None:
    few = phantom.fresh([("solid", "Elm")], 3, 7, "floor", patches_per_slide=2)
    many = phantom.fresh([("acinar", "Alder"), ("solid", "Elm")], 5, 7, "floor", patches_per_slide=2)
    same = many.where(**{"class": "solid"}).select(np.arange(3))
    assert same.images[:].tobytes() == few.images[:].tobytes()
    pd.testing.assert_frame_equal(same.table, few.table)


@pytest.mark.slow
def test_the_cohort_is_the_same_again_and_another_seed_changes_the_patches_only() -> None:
    one, again, other = (phantom.cohort(seed, patches=60) for seed in (1, 1, 2))
    assert one.digest() == again.digest()
    assert (one.table[["class", "site"]] == other.table[["class", "site"]]).all(axis=None)
    assert (one.images[:] != other.images[:]).any(axis=(1, 2, 3)).all()


@pytest.mark.slow
def test_patches_are_the_same_however_many_processes_draw_them_p3(
    collected: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "TOGETHER", 70)
    monkeypatch.setattr(cohorts, "WORTH_A_PROCESS", 100 * 32 * 32 * 3)
    monkeypatch.setattr(cohorts, "cores", lambda: 2)
    asked: list[int] = []
    monkeypatch.setattr(cohorts, "Pool", lambda workers, threads: asked.append(workers) or Pool(workers, threads))
    assert phantom.cohort(0, patches=300).digest() == collected.digest()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "a worker's")
    assert phantom.cohort(0, patches=300).digest() == collected.digest()
    assert asked == [2, 1]


@pytest.mark.slow
def test_streams_and_seeds_share_no_patient_p5(collected: Cohort) -> None:
    sets = [collected] + [
        phantom.fresh([("solid", "Elm")], 2, seed, name) for seed, name in ((0, "a"), (1, "a"), (0, "b"))
    ]
    for column in ("patient", "slide", "sample_id"):
        names = [name for cohort in sets for name in cohort.table[column].unique()]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("size", [32, 64])
def test_the_table_is_as_the_design_names_it(size: int) -> None:
    table = phantom.fresh([("spindle", "Rowan")], 2, 0, "x", size=size).table
    assert table["mpp"].tolist() == [{32: "1.0", 64: "0.5"}[size]] * 2
    assert table["noise_id"].equals(table["sample_id"].rename("noise_id"))
    assert set(table["origin"]) == {"real"}
    assert set(table["split"]) == set(table["image"]) == {""}


# --- the design ---


def test_counts_are_exact_and_as_skewed_as_collected_cohorts_are() -> None:
    counts = filled()
    total = counts.to_numpy().sum()
    assert total == 4000
    assert 2 <= (counts == 0).to_numpy().sum() <= 4
    assert 0.08 < counts.to_numpy().max() / total < 0.14
    assert (counts[counts > 0].min() < 15).all()
    two_largest = counts.apply(lambda column: column.nlargest(2).sum() / column.sum())
    assert (two_largest > 0.8).sum() >= 3
    assert (counts.max(axis=1) / counts.sum(axis=1)).max() > 0.85
    assert counts.max(axis=1).sum() / total > 0.75  # guessing the class from the site alone
    assert ((counts > 0).sum(axis=1) >= 2).all()  # so that a combination can be held out at each site


def test_small_cohorts_keep_every_filled_combination(collected: Cohort) -> None:
    assert len(collected) == 300
    assert len(collected.table.groupby(["class", "site"])) == 29
    assert collected.schema.attribute("site").levels == SITES


def test_slides_and_patients_are_of_the_stated_size_p5() -> None:
    rows = [
        row
        for found, n in cohorts._design_counts(4000).items()
        for row in cohorts._rows("cohort", 3, *found, cohorts._slide_sizes(*found, n))
    ]
    table = pd.DataFrame(rows)
    assert len(table) == 4000
    assert table.groupby("patient")["slide"].nunique().between(1, 3).all()
    assert table.groupby("slide")["patient"].nunique().eq(1).all()
    assert table.groupby("slide").size().max() <= 25
    assert table.groupby("patient")[["class", "site"]].nunique().eq(1).all(axis=None)


@pytest.mark.slow
def test_group_follows_the_site_and_is_missing_for_one_in_seven_patients() -> None:
    for site in ("Elm", "Alder"):
        drawn = [cohorts._group(f"{site}-solid-x.0-p{i}", 0) for i in range(2000)]
        shares = pd.Series([true for true, _ in drawn]).value_counts(normalize=True)
        expected = dict(zip(phantom.GROUPS, cohorts.GROUP_GIVEN_SITE[site]))
        assert all(abs(shares[group] - share) < 0.04 for group, share in expected.items())
        assert abs(np.mean([known == "" for _, known in drawn]) - cohorts.GROUP_MISSING) < 0.03
        assert all(known in ("", true) for true, known in drawn)


# --- tissue and rendering are separate ---


def test_the_twin_at_the_own_site_is_the_patch_itself(crossed: Cohort) -> None:
    own = crossed.where(site="Cedar")
    twin, masks = phantom.twins(own, "Cedar")
    assert twin.images[:].tobytes() == own.images[:].tobytes()
    assert 0.1 < masks.mean() < 0.7


def test_twins_share_tissue_and_take_the_other_sites_colour(crossed: Cohort) -> None:
    source = crossed.where(site="Alder")
    at_elm, masks = phantom.twins(source, "Elm")
    at_birch, same = phantom.twins(source, "Birch")
    assert np.array_equal(masks, same)
    assert (mean_colours(at_elm)["r"] > mean_colours(at_birch)["r"] + 20).all()
    assert at_elm.table.drop(columns="site").equals(source.table.drop(columns="site"))
    assert set(at_elm.table["site"]) == {"Elm"}


@pytest.mark.slow
def test_nuclei_are_darker_than_what_surrounds_them(crossed: Cohort) -> None:
    _, masks = phantom.twins(crossed, "Alder")
    red = crossed.images[:][..., 0].astype(float)
    inside, outside = (np.array([image[m].mean() for image, m in zip(red, where)]) for where in (masks, ~masks))
    assert (outside - inside > 10).mean() > 0.95


@pytest.mark.slow
def test_the_three_seeds_move_one_thing_each(crossed: Cohort) -> None:
    source = crossed.where(site="Willow")
    base, masks = phantom.twins(source, "Willow", Seeds(0, 0, 0))
    tissue, moved = phantom.twins(source, "Willow", Seeds(1, 0, 0))
    stained, kept = phantom.twins(source, "Willow", Seeds(0, 1, 0))
    noisy, kept_too = phantom.twins(source, "Willow", Seeds(0, 0, 1))
    assert (masks != moved).any(axis=(1, 2)).all()
    assert np.array_equal(masks, kept)
    assert np.array_equal(masks, kept_too)
    difference = [np.abs(base.images[:].astype(int) - other.images[:]).mean() for other in (noisy, stained, tissue)]
    assert 0.1 < difference[0] < 3.0 < difference[1] < difference[2]


def test_clean_twins_do_not_depend_on_the_sensor_seed(crossed: Cohort) -> None:
    source = crossed.where(site="Rowan")
    one, _ = phantom.twins(source, "Rowan", Seeds(0, 0, 0), clean=True)
    two, _ = phantom.twins(source, "Rowan", Seeds(0, 0, 9), clean=True)
    assert one.images[:].tobytes() == two.images[:].tobytes()
    assert 0.3 < np.abs(one.images[:].astype(int) - source.images[:]).mean() < 5.0


@pytest.mark.slow
def test_another_stain_takes_the_place_of_the_sites(crossed: Cohort) -> None:
    source = crossed.where(site="Rowan")
    own, _ = phantom.twins(source, "Cedar", clean=True)
    same, _ = phantom.twins(source, "Cedar", clean=True, stain=STAINS["Cedar"])
    assert own.images[:].tobytes() == same.images[:].tobytes()
    unstained = Stain((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), STAINS["Cedar"].background)
    glass, _ = phantom.twins(source, "Cedar", clean=True, stain=unstained)
    assert np.ptp(glass.images[:], axis=(1, 2)).max() == 0, "no stain, no tissue"


def test_a_slides_stain_is_its_own_and_near_that_of_its_site() -> None:
    factors = np.array([phantom.stain_of(f"slide {i}", 0).vectors for i in range(400)])
    assert np.array_equal(factors[3], phantom.stain_of("slide 3", 0).vectors)
    assert not np.array_equal(factors[3], phantom.stain_of("slide 3", 1).vectors)
    spread = np.hypot(phantom.SLIDE["concentration"], phantom.SLIDE["hue"])
    np.testing.assert_allclose(np.log(factors).mean(axis=0), 0.0, atol=4 * spread / 20)
    np.testing.assert_allclose(np.log(factors).std(axis=0), spread, rtol=0.2)


def test_stain_and_scanner_cross() -> None:
    section = phantom.cut("acinar", "A", "slide", "sample", 0, 32)
    seeds = Seeds(0, 0, 0)
    pictures = {
        (stain, scanner): phantom.render(section, STAINS[stain], SCANNERS[scanner], "slide", "sample", seeds)
        for stain in ("Alder", "Elm")
        for scanner in ("Hazel", "Willow")
    }
    sharpness = {key: np.abs(np.diff(image.astype(float), axis=0)).mean() for key, image in pictures.items()}
    assert sharpness["Alder", "Willow"] > 1.1 * sharpness["Alder", "Hazel"]
    assert sharpness["Elm", "Willow"] > 1.1 * sharpness["Elm", "Hazel"]
    blue = {key: image[..., 2].mean() for key, image in pictures.items()}
    assert blue["Alder", "Willow"] > blue["Elm", "Willow"] + 10


def test_an_unstained_section_shows_the_background() -> None:
    section = phantom.cut("solid", "B", "slide", "sample", 0, 32)
    blank = replace(section, haematoxylin=np.zeros((32, 32)), eosin=np.zeros((32, 32)))
    scanner = replace(SCANNERS["Alder"].clean(), gain=(1.0, 1.0, 1.0))
    image = phantom.render(blank, STAINS["Rowan"], scanner, "slide", "sample", Seeds(0, 0, 0))
    assert np.abs(image.mean(axis=(0, 1)) - 255 * np.array(STAINS["Rowan"].background)).max() < 8
    assert image.reshape(-1, 3).std(axis=0).max() == 0


@pytest.mark.slow
def test_infiltrate_grows_with_the_group() -> None:
    cover = {
        group: np.mean([phantom.cut("spindle", group, f"s{i}", f"p{i}", 0, 32).nuclei.mean() for i in range(40)])
        for group in phantom.GROUPS
    }
    assert cover["A"] < cover["B"] < cover["C"] < cover["A"] + 0.12


# --- what it looks like ---


def test_colours_are_those_of_haematoxylin_and_eosin(crossed: Cohort) -> None:
    colours = mean_colours(crossed).groupby(crossed.table["site"]).mean()
    assert (colours["g"] < colours[["r", "b"]].max(axis=1)).all()
    assert colours.min(axis=None) > 55
    assert colours.max(axis=None) < 225
    gaps = np.linalg.norm(colours.to_numpy()[:, None] - colours.to_numpy(), axis=-1)
    assert gaps[np.triu_indices(8, 1)].min() > 5


@pytest.mark.slow
def test_patches_of_one_slide_resemble_each_other() -> None:
    slides = phantom.fresh([("solid", "Alder")], 64, 0, "slides", patches_per_slide=8)
    colours = mean_colours(slides).groupby(slides.table["slide"])
    between, within = colours.mean().var().mean(), colours.var().mean().mean()
    assert between > within


def test_a_larger_patch_shows_the_same_tissue_on_more_pixels() -> None:
    """256 px of 0.125 micrometres: the nuclei of 64 px, four times as sharp."""
    small, large = (phantom.cut("solid", "A", "slide", "patch", 0, size).nuclei for size in (64, 256))
    blocks = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert (small == (blocks > 0.5)).mean() > 0.97
    made = phantom.fresh([("solid", "Elm")], 1, 0, "x", size=256)
    assert (made.images.size, made.mpp) == (256, phantom.FIELD / 256)


def test_the_parameters_are_pinned() -> None:
    """A change here is a change of every published figure: raise VERSION where code changed, and rerun them."""
    assert phantom.parameters_hash() == PARAMETERS
    means = mean_colours(phantom.fresh(COMBINATIONS[::9], 1, 0, "pinned")).to_numpy()
    np.testing.assert_allclose(means, MEAN_COLOURS, atol=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phantom.fresh([("lobular", "Elm")], 1, 0, "x"), "class 'lobular'.*acinar"),
        (lambda: phantom.fresh([("solid", "Oak")], 1, 0, "x"), "site 'Oak'.*Alder"),
        (lambda: phantom.fresh([("solid", "Elm")], 0, 0, "x"), "1 or more"),
        (lambda: phantom.fresh([], 1, 0, "x"), "no combinations"),
        (lambda: phantom.fresh([("solid", "Elm")], 1, 0, "cohort"), "stream 'cohort'"),
        (lambda: phantom.fresh([("solid", "Elm")], 1, 0, "x", size=48), "32, 64, 128, 256 px, not 48"),
        (lambda: phantom.cohort(0, patches=20), "20 patches are too few"),
    ],
)
def test_a_mistake_is_one_clear_line(call, message: str) -> None:
    with pytest.raises(MediError, match=message):
        call()


def test_twins_of_another_cohort_are_refused(crossed: Cohort) -> None:
    stranger = Cohort(crossed.table, crossed.schema, crossed.pixels)
    with pytest.raises(MediError, match="phantom cohort of this version"):
        phantom.twins(stranger, "Elm")
    other = phantom.fresh([("solid", "Elm")], 1, 5, "x")
    with pytest.raises(MediError, match="several seeds"):
        phantom.twins(concatenate([crossed, other]), "Elm")
    with pytest.raises(MediError, match="'Oak' is unknown"):
        phantom.twins(crossed, "Oak")
