"""Copies are found, turned and noisy; fresh patches of the same slides are none; slides that leak are told."""

import numpy as np
import pandas as pd
import pytest

from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort, concatenate
from medi.cohort.turns import turned
from medi.evaluation.encoders import COLOUR_TEXTURE, embed
from medi.evaluation.memorisation import Memorisation, Patches, grids, memorisation, nearest

COMBINATIONS = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
OVER = ("class", "site")


def patches(cohort: Cohort) -> Patches:
    return Patches(cohort, embed(cohort, COLOUR_TEXTURE))


@pytest.fixture(scope="module")
def training() -> tuple[Patches, Patches, Patches]:
    """Training patches, fresh ones of the same slides, and those of other patients."""
    whole = phantom.fresh(COMBINATIONS, 84, 0, "training", patches_per_slide=14)
    number = whole.table.groupby("slide").cumcount()
    others = phantom.fresh(COMBINATIONS, 40, 0, "others", patches_per_slide=8)
    return (
        patches(whole.select(number.lt(8).to_numpy())),
        patches(whole.select(number.ge(8).to_numpy())),
        patches(others),
    )


def copies(train: Cohort, noise: float = 6.0) -> Cohort:
    """Every training patch with noise of 6 grey levels, in one of eight turns."""
    rng = np.random.default_rng(0)
    images = train.images[:].astype(np.float64) + rng.normal(scale=noise, size=train.images[:].shape)
    images = images.clip(0, 255).round().astype(np.uint8)
    rows = [turned(image[None], i % 8)[0] for i, image in enumerate(images)]
    table = train.table.assign(sample_id="copy" + train.table["sample_id"], slide="", patient="")
    return Cohort(table, train.schema, Pixels.of(np.stack(rows)))


@pytest.fixture(scope="module")
def found(training: tuple[Patches, Patches, Patches]) -> Memorisation:
    train, reserve, others = training
    half = reserve.cohort.table["sample_id"].isin(set(reserve.cohort.table["sample_id"][::2])).to_numpy()
    sets = {
        "copies": patches(copies(train.cohort)),
        "exact": patches(copies(train.cohort, noise=0.0)),
        "fresh": Patches(reserve.cohort.select(~half), reserve.features[~half]),
    }
    null = Patches(reserve.cohort.select(half), reserve.features[half])
    return memorisation(train, sets, null, others, over=OVER, seed=0)


def value(found: Memorisation, metric: str, arm: str) -> pd.Series:
    rows = found.figures[(found.figures["metric"] == metric) & (found.figures["arm"] == arm)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.slow
def test_turned_and_noisy_copies_are_found_and_fresh_patches_are_none(found: Memorisation) -> None:
    assert value(found, "copy_rate", "copies")["value"] >= 0.99
    assert value(found, "copy_rate", "fresh")["value"] <= 0.05
    real = value(found, "copy_rate", "real")
    assert real["value"] <= 0.05
    assert real["low"] <= real["value"] <= real["high"]
    assert (real["n_real"], real["n_synthetic"]) == (72, 160)
    assert (real["origin"], value(found, "copy_rate", "fresh")["origin"]) == ("", "real"), "what made the images"
    assert "72 reserved patches" in real["reason"]


@pytest.mark.slow
def test_patches_of_training_slides_leak_more_than_those_of_other_patients(found: Memorisation) -> None:
    """The null is at 5 % by construction; reserved patches know their slide."""
    assert value(found, "slide_leak", "reserve")["value"] > 0.10
    assert value(found, "slide_leak", "exact")["value"] == 1


def test_suspects_name_the_pair_and_the_sheet_shows_it(
    found: Memorisation, training: tuple[Patches, Patches, Patches]
) -> None:
    rows = found.suspects[found.suspects["arm"] == "copies"]
    assert list(rows["rank"]) == list(range(1, 13))
    assert (rows["sample_id"] == "copy" + rows["neighbour"]).all()
    assert (rows["ratio"] < 1).all()
    assert set(rows["neighbour_slide"]) <= set(training[0].cohort.table["slide"])
    assert found.sheet is not None
    shown = found.sheet.where(arm="copies")
    made, known = (shown.where(role=role).images[:].astype(float) for role in ("synthetic", "training"))
    assert np.abs(made - known).mean(axis=(1, 2, 3)).max() < 12, "turned as the neighbour lies"


def test_every_turn_is_undone() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 21, 21, 3), dtype=np.uint8)
    known = grids(Pixels.of(images))
    views = {turn: np.ascontiguousarray(turned(images, turn)) for turn in range(8)}
    assert len({view.tobytes() for view in views.values()}) == 8
    for view in views.values():
        near = nearest(known, grids(Pixels.of(view)))
        assert near.row.tolist() == list(range(6))
        assert near.distance == pytest.approx(np.zeros(6), abs=1.0)  # float32
        assert (near.ratio < 0.01).all()


def test_blocks_of_training_patches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all pairs at once in float64; of two patches alike in different blocks the first one counts."""
    rng = np.random.default_rng(0)
    known = rng.normal(0, 20, (90, 192)).astype(np.float32)
    known[[70, 85]] = known[3]
    shown = np.concatenate([known[[3, 8, 89]], rng.normal(0, 20, (37, 192)).astype(np.float32)])
    monkeypatch.setattr("medi.evaluation.memorisation.BLOCK", 8 * 32 * 25)
    near = nearest(known, shown)
    views = np.stack([turned(shown.reshape(-1, 8, 8, 3), turn).reshape(len(shown), -1) for turn in range(8)])
    far = np.sqrt(((views[:, :, None] - known[None, None]).astype(np.float64) ** 2).sum(axis=3))
    assert near.row.tolist() == far.min(axis=0).argmin(axis=1).tolist()
    assert near.row[:3].tolist() == [3, 8, 89]
    assert near.distance == pytest.approx(far.min(axis=(0, 2)), abs=1e-6)
    ordered = np.sort(far.min(axis=0), axis=1)
    assert near.ratio == pytest.approx(ordered[:, 0] / ordered[:, 1:21].mean(axis=1), abs=1e-9)


def test_of_many_fresh_patches_some_are_drawn(
    training: tuple[Patches, Patches, Patches], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for copies stays linear; copies are found as before, and slides are asked of all patches."""
    train, reserve, others = training
    sets = {"exact": patches(copies(train.cohort, noise=0.0))}
    whole = memorisation(train, sets, reserve, others, over=OVER, seed=0)
    monkeypatch.setattr("medi.evaluation.memorisation.MOST", 100)
    monkeypatch.setattr("medi.evaluation.memorisation.RESERVED", 120)
    drawn = memorisation(train, sets, reserve, others, over=OVER, seed=0)
    sizes = [tuple(value(one, "copy_rate", "real")[["n_real", "n_synthetic"]]) for one in (whole, drawn)]
    assert sizes == [(144, 160), (120, 100)]
    assert value(drawn, "copy_rate", "exact")["value"] == 1
    assert value(drawn, "copy_rate", "real")["value"] <= 0.05
    leaks = [one.figures[one.figures["metric"] == "slide_leak"].reset_index(drop=True) for one in (whole, drawn)]
    pd.testing.assert_frame_equal(*leaks)


def test_without_nulls_there_is_a_reason(training: tuple[Patches, Patches, Patches]) -> None:
    """P7."""
    train, reserve, _ = training
    few = Patches(reserve.cohort.select(np.arange(5)), reserve.features[:5])
    alone = memorisation(train, {"made": few}, None, None, over=OVER, seed=0)
    assert "no reserved patches" in value(alone, "copy_rate", "made")["reason"]
    assert "no patches of other patients" in value(alone, "slide_leak", "made")["reason"]
    assert alone.figures["value"].isna().all()
    assert len(alone.suspects) == 5
    assert (
        "5 reserved patches: 19 are needed"
        in value(memorisation(train, {"made": few}, few, None, over=OVER, seed=0), "copy_rate", "made")["reason"]
    )
    nothing = memorisation(train, {}, reserve, None, over=OVER, seed=0)
    assert nothing.sheet is None
    assert len(nothing.suspects) == 0


def test_grids_are_means_of_cells_less_the_mean_colour() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    cells = images.reshape(3, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    cells -= cells.mean(axis=(1, 2), keepdims=True)
    assert grids(Pixels.of(images)) == pytest.approx(cells.reshape(3, -1), abs=1e-3)
    odd = np.full((1, 37, 37, 3), 7, dtype=np.uint8)
    assert np.abs(grids(Pixels.of(odd))).max() < 1e-4, "constant patches of any size"


@pytest.mark.slow
def test_plain_patches_are_no_copies(training: tuple[Patches, Patches, Patches]) -> None:
    """Plain patches, alike to everything, are no copies of each other."""
    train, reserve, others = training
    flat = np.full((30, 32, 32, 3), 200, dtype=np.uint8) + np.random.default_rng(2).integers(
        0, 3, (30, 32, 32, 3), dtype=np.uint8
    )
    glass = Cohort(
        train.cohort.table.iloc[:30].assign(sample_id=[f"glass{i}" for i in range(30)]),
        train.cohort.schema,
        Pixels.of(flat),
    )
    more = flat[::-1, ::-1].copy()
    made = Cohort(
        glass.table.assign(sample_id=[f"made{i}" for i in range(30)]), glass.schema, Pixels.of(np.roll(more, 5, 1))
    )
    with_glass = patches(concatenate([train.cohort, glass]))
    rates = memorisation(with_glass, {"plain": patches(made)}, reserve, others, over=OVER, seed=0)
    assert value(rates, "copy_rate", "plain")["value"] <= 0.1
