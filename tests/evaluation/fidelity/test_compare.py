"""Fidelity: equal n, one real reference for all arms, undefined with a reason."""

import numpy as np
import pandas as pd
import pytest

from medi.core.errors import MediError
from medi.evaluation.features import Embedded
from medi.evaluation.fidelity.compare import distances, halves, per_class, per_combination
from medi.evaluation.fidelity.frechet import frechet_distance

OVER = ["class", "site"]
D = 4
COMBINATIONS = [(c, s) for c in ("A", "B") for s in ("x", "y", "z")]


def made(name: str, per: int | dict = 20, shift: float = 0.0, slides: int = 5, spread: float = 1.0) -> Embedded:
    """Gaussian embeddings around a mean of their own cell; `per` rows a cell, or as given by cell."""
    sizes = dict.fromkeys(COMBINATIONS, per) if isinstance(per, int) else per
    rows = [
        (f"{name}-{c}{s}-{i}", c, s, f"{name}-{c}{s}-{i % slides}") for (c, s), k in sizes.items() for i in range(k)
    ]
    table = pd.DataFrame(rows, columns=["sample_id", "class", "site", "slide"])
    centre = table["class"].map({"A": 0.0, "B": 5.0}) + table["site"].map({"x": 0.0, "y": 10.0, "z": 20.0})
    noise = np.random.default_rng([ord(letter) for letter in name]).normal(size=(len(table), D)) * spread
    return Embedded(noise + centre.to_numpy()[:, None] + shift, table)


def combination(real: Embedded, floor: Embedded, n: int = 20, seed: int = 3, **arms: Embedded) -> pd.DataFrame:
    held_out = [("B", "z")]
    return per_combination(real, floor, arms, over=OVER, n=n, seed=seed, encoder="d4", held_out=held_out, draws=200)


def row(table: pd.DataFrame, **values: str) -> pd.Series:
    keep = np.logical_and.reduce([table[name.rstrip("_")] == value for name, value in values.items()])
    assert keep.sum() == 1
    return table[keep].iloc[0]


def cell_of(data: Embedded, c: str, s: str) -> np.ndarray:
    return data.features[((data.table["class"] == c) & (data.table["site"] == s)).to_numpy()]


def without(data: Embedded, c: str, s: str, keep: int) -> Embedded:
    here = ((data.table["class"] == c) & (data.table["site"] == s)).to_numpy()
    rows = np.flatnonzero(~here | (np.cumsum(here) <= keep))
    return data.take(rows)


@pytest.mark.slow
def test_whole_cells_give_the_plain_distance_and_every_row_its_place() -> None:
    real, floor, medi, cls = made("real"), made("floor"), made("medi", shift=0.1), made("cls", shift=2.0)
    table = combination(real, floor, cls=cls, medi=medi)
    for c, s in COMBINATIONS:
        for arm, data in (("floor", floor), ("medi", medi), ("cls", cls)):
            found = row(table, metric="frechet", class_=c, site=s, arm=arm)
            assert found["value"] == pytest.approx(frechet_distance(cell_of(real, c, s), cell_of(data, c, s)))
            assert (found["n_real"], found["n_synthetic"], found["encoder"]) == (20, 20, "d4")
            assert found["split"] == ("unseen" if (c, s) == ("B", "z") else "seen")
            assert np.isnan(found["low"])


@pytest.mark.slow
def test_differences_and_means() -> None:
    real, floor, medi, cls = made("real"), made("floor"), made("medi"), made("cls", shift=3.0)
    table = combination(real, floor, cls=cls, medi=medi)
    frechet = table[(table["metric"] == "frechet") & (table["scope"] == "combination") & (table["split"] == "seen")]
    for arm, rows in frechet.groupby("arm"):
        mean = row(table, metric="frechet", scope="combination_mean", split="seen", arm=str(arm))
        assert mean["value"] == pytest.approx(rows["value"].mean())
    found = row(table, metric="frechet_difference", scope="combination_mean", split="seen")
    assert (found["arm"], found["against"]) == ("cls", "medi")
    assert 0 < found["low"] < found["value"] < found["high"]
    one = row(table, metric="frechet_difference", class_="A", site="x")
    assert 0 < one["low"] < one["high"]


@pytest.mark.slow
def test_counts_are_matched_to_the_smallest_supply() -> None:
    """P8: one n for all arms and the floor, and the reason names who was short."""
    real, floor, cls = made("real"), made("floor"), made("cls")
    medi = without(made("medi"), "A", "y", 12)
    table = combination(real, floor, cls=cls, medi=medi)
    short = table[(table["class"] == "A") & (table["site"] == "y")]
    assert (short["n_real"] == 12).all()
    assert (short["n_synthetic"] == 12).all()
    assert short["reason"].str.contains("matched at 12 of 20 images: medi has 12 images of A, y").all()
    assert (table[(table["site"] == "x")]["n_real"] == 20).all()


@pytest.mark.slow
@pytest.mark.parametrize("held", [0, 1])
def test_an_arm_without_images_is_undefined_and_spares_the_others(held: int) -> None:
    """P7."""
    medi = without(made("medi"), "A", "y", held)
    table = combination(made("real"), made("floor"), cls=made("cls"), medi=medi)
    found = row(table, metric="frechet", class_="A", site="y", arm="medi")
    assert np.isnan(found["value"])
    assert found["reason"] == f"medi has {held} images of A, y"
    assert np.isfinite(row(table, metric="frechet", class_="A", site="y", arm="cls")["value"])
    difference = row(table, metric="frechet_difference", class_="A", site="y")
    assert np.isnan(difference["value"])
    assert np.isnan(difference["low"])
    mean = row(table, metric="frechet", scope="combination_mean", split="seen", arm="cls")
    assert "1 of 5 undefined and left out" in mean["reason"]
    assert mean["n_real"] == 80


@pytest.mark.slow
def test_without_real_images_nothing_is_defined() -> None:
    table = combination(without(made("real"), "A", "y", 1), made("floor"), cls=made("cls"))
    rows = table[(table["class"] == "A") & (table["site"] == "y")]
    assert rows["value"].isna().all()
    assert rows["reason"].eq("real has 1 images of A, y").all()


@pytest.mark.slow
def test_two_images_constant_images_and_nan_features_speak_up() -> None:
    """P7: a value that means little carries a warning, one that means nothing is NaN."""
    real, floor, cls = made("real"), made("floor"), made("cls")
    cls.features[(cls.table["site"] == "x").to_numpy()] = 1.0
    cls.features[(cls.table["site"] == "y").to_numpy(), 2] = np.nan
    cls = without(cls, "A", "z", 2)
    table = combination(real, floor, cls=cls)
    constant, broken, two = (row(table, metric="frechet", class_="A", site=s, arm="cls") for s in "xyz")
    assert np.isfinite(constant["value"])
    assert constant["reason"] == "all 20 cls embeddings are the same"
    assert np.isnan(broken["value"])
    assert broken["reason"] == "20 of 20 cls embeddings are not finite"
    assert np.isnan(two["value"])
    assert two["reason"].endswith("2 images are too few for a distance; 20 are needed")


@pytest.mark.slow
def test_one_real_slide_gives_no_interval() -> None:
    table = combination(made("real", slides=1), made("floor"), cls=made("cls"), medi=made("medi"))
    found = row(table, metric="frechet_difference", class_="A", site="x")
    assert np.isfinite(found["value"])
    assert np.isnan(found["low"])
    assert found["reason"] == "one cluster: no interval"


@pytest.mark.slow
def test_order_of_rows_does_not_matter() -> None:
    """P3: the draw follows sample_id, the seed and the cell."""
    real, floor, cls, medi = made("real", 30), made("floor"), made("cls", 25), made("medi", 40)
    order = np.random.default_rng(0).permutation(len(cls))
    first = combination(real, floor, n=15, cls=cls, medi=medi)
    second = combination(real, floor, n=15, cls=cls.take(order), medi=medi)
    pd.testing.assert_frame_equal(first, second)
    again = combination(real, floor, n=15, seed=4, cls=cls, medi=medi)
    distances = first["metric"] == "frechet"
    assert (again["value"] != first["value"])[distances].all()


@pytest.mark.slow
def test_arms_of_one_plan_give_the_same_rows() -> None:
    """Equal images under other ids in the same order have exactly the same distance: the draw holds no arm."""
    medi = made("medi", 40)
    cls = medi.assign(sample_id="c" + medi.table["sample_id"])
    table = combination(made("real"), made("floor"), n=20, cls=cls, medi=medi)
    assert (table[table["metric"] == "frechet_difference"]["value"] == 0).all()


@pytest.mark.slow
def test_per_class_draws_every_set_at_the_real_site_marginal() -> None:
    """P8: sets of any make-up meet at the marginal's shares: sites lie far apart, so another mix would be far off."""
    shares = {"x": 0.7, "y": 0.3}
    marginal = pd.DataFrame([(c, s, share) for c in "AB" for s, share in shares.items()], columns=[*OVER, "share"])
    skewed = {cell: 40 if cell[1] == "x" else 90 for cell in COMBINATIONS}
    real, floor, medi = made("real", 60), made("floor", skewed), made("medi", 50)
    table = per_class(real, floor, {"medi": medi}, marginal, n=50, seed=0, encoder="d4")
    assert set(table["scope"]) == {"class", "class_mean"}
    assert (table[table["scope"] == "class"]["n_real"] == 50).all()
    assert (table["value"] < 3).all()
    assert table["reason"].eq("").all()


def test_per_class_shrinks_to_what_every_set_has_at_these_shares() -> None:
    marginal = pd.DataFrame([("A", "x", 0.8), ("A", "y", 0.2)], columns=[*OVER, "share"])
    table = per_class(
        made("real", 60), made("floor", 20), {"medi": made("medi", 60)}, marginal, n=50, seed=0, encoder="e"
    )
    found = row(table, metric="frechet", scope="class", arm="medi")
    assert found["n_real"] == 25  # 20 of the floor at x are 0.8 of 25
    assert found["reason"] == "matched at 25 of 50 images: floor has 20 images of A, x"
    assert (table["site"] == "").all()


@pytest.mark.slow
def test_null_intervals_of_differences_cover_zero() -> None:
    """Two arms from one distribution: the paired interval holds zero nearly always, the other way round it does not."""
    table = combination(made("real"), made("floor"), cls=made("cls"), medi=made("medi"), far=made("far", shift=3.0))
    cells = table[(table["metric"] == "frechet_difference") & (table["scope"] == "combination")]
    covers = (cells["low"] <= 0) & (cells["high"] >= 0)
    assert covers[(cells["arm"] == "cls") & (cells["against"] == "medi")].mean() >= 5 / 6
    assert not covers[(cells["arm"] == "medi") & (cells["against"] == "far")].any()


@pytest.mark.slow
def test_sets_may_have_any_name() -> None:
    """Defect: a set called "my - model" raised KeyError."""
    sets = {"my - model": made("medi"), "cls": made("cls")}
    table = per_combination(made("real"), made("floor"), sets, over=OVER, n=20, seed=3, encoder="d4", draws=20)
    rows = table[table["metric"].str.endswith("_difference")]
    pairs = {("my - model", "cls"), ("my - model", "floor"), ("cls", "floor")}
    assert set(zip(rows["arm"], rows["against"])) == pairs


def test_sets_that_do_not_fit_are_refused() -> None:
    real, floor, cls = made("real"), made("floor"), made("cls")
    with pytest.raises(MediError, match=r"cls: embeddings \[120, 3\] do not fit 4 numbers a patch"):
        combination(real, floor, cls=Embedded(cls.features[:, :3], cls.table))
    with pytest.raises(MediError, match=r"119 embeddings .* for 120 table rows"):
        Embedded(cls.features[1:], cls.table)
    with pytest.raises(
        MediError,
        match=r"the floor table lacks the columns site; compare over what it has \(--over class\), or make it again",
    ):
        combination(real, Embedded(floor.features, floor.table.drop(columns="site")), cls=cls)


@pytest.mark.parametrize("seed", range(20))
def test_halves_share_no_slide_and_every_combination_evenly(seed: int) -> None:
    """The bound: what a half lacks of a combination is at most the largest slide of one that holds it."""
    rng = np.random.default_rng(seed)
    slide = rng.integers(0, 30, 400)
    table = pd.DataFrame({"class": np.where(slide % 2, "a", "b"), "site": rng.choice(["x", "y"], 400)})
    table["slide"] = [f"S{i}" if i else "" for i in slide]
    table["sample_id"] = [f"P{i}" for i in range(400)]
    first = halves(table, ("class", "site"), seed)
    known = table["slide"] != ""
    assert table[known].assign(first=first[known]).groupby("slide")["first"].nunique().max() == 1
    assert abs(first[~known].sum() - (~first[~known]).sum()) < (~known).sum(), "without a slide each stands alone"
    shares = table.assign(first=first).groupby(["class", "site"])["first"].mean()
    assert shares.between(0.35, 0.65).all(), shares
    shuffled = table.sample(frac=1, random_state=seed)
    assert (halves(shuffled, ("class", "site"), seed) == first[shuffled.index]).all(), "whatever the order of rows"


@pytest.mark.slow
def test_patches_of_unknown_site_are_of_no_combination() -> None:
    """Defect: a class at site "" was a combination more in the means, and left its class without a distance."""
    real, floor, medi = made("real"), made("floor"), made("medi", shift=0.1)
    lost = made("lost", {("A", "x"): 6})
    nowhere = Embedded(lost.features, lost.table.assign(site=""))
    given = {"over": OVER, "n": 20, "seed": 3, "encoder": "d4", "draws": 50}
    plain = distances(real, floor, {"medi": medi}, training=real.table, **given)
    more = real.join(nowhere)
    table = distances(more, floor, {"medi": medi}, training=more.table, **given)
    pd.testing.assert_frame_equal(table.drop(columns="reason"), plain.drop(columns="reason"))
    means = table["scope"].eq("combination_mean")
    assert table["reason"][means].str.contains("6 patches of unknown site belong to no combination").all()
    assert not table["reason"][~means].str.contains("unknown").any()


def test_where_no_level_is_known_nothing_can_be_compared() -> None:
    real = made("real").assign(site="")
    with pytest.raises(MediError, match="no patch has a known class and site"):
        combination(real, real)
