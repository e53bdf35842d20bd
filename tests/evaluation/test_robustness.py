"""Robustness of an encoder: equal to croma, silent about nothing, undefined with a reason (P7), patients apart (P5)."""

import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import medi
from medi.evaluation.features import Embedded
from medi.evaluation.robustness import (
    CANDIDATES,
    CLUSTERING,
    NEAR,
    Figure,
    chosen,
    clustering_score,
    manifest,
    near_figures,
    robustness,
)
from medi.evaluation.shortcuts import METRICS, shortcut_figures, sweeps

OVER = ("class", "site")


def made(class_: float = 1.0, site: float = 1.0, patients: int = 8, patches: int = 3, seed: int = 0) -> Embedded:
    """Two classes at two sites, `patients` of `patches` patches in each combination."""
    random = np.random.default_rng(seed)
    rows = [
        {"class": c, "site": s, "patient": f"{c}{s}{p}", "slide": f"{c}{s}{p}", "sample_id": f"{c}{s}{p}x{n}"}
        for c in "AB" for s in "xy" for p in range(patients) for n in range(patches)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    features = random.normal(size=(len(table), 6))
    features[:, 0] += np.where(table["class"] == "A", 1, -1) * 2 * class_
    features[:, 1] += np.where(table["site"] == "x", 1, -1) * 2 * site
    return Embedded(features, table)


def values(figures: list[Figure]) -> dict[str, float]:
    return {found.metric: found.value for found in figures}


def reasons(figures: list[Figure]) -> set[str]:
    return {found.reason for found in figures}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [made(1, 1), made(0.3, 1.2, patients=5, patches=7, seed=3)])
def test_equal_to_croma(rows: Embedded) -> None:
    import croma

    sheet = rows.table.rename(columns={"class": "label", "patient": "group_id"}).assign(image_path="")
    sheet = sheet[["sample_id", "image_path", "label", "site", "group_id"]]
    common = {"confounder_column": "site", "k_candidates": [k for k in CANDIDATES if k < len(rows)]}
    ri = croma.RI.compute(rows.features, sheet, **common)
    mari = croma.MaRI.compute(rows.features, sheet, **common)
    margin = croma.CRoMa.compute(rows.features, sheet, confounder_column="site")
    expected = (ri.value, ri.k, ri.support, mari.value, mari.tau, mari.support)
    expected += (margin.value, margin.ltm_alpha, margin.f0)
    found = values(near_figures(rows, OVER))
    assert list(found) == list(NEAR)
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_class_and_site_are_told_apart() -> None:
    by_class, by_site = (values(near_figures(made(*of), OVER)) for of in ((1.5, 0.2), (0.2, 1.5)))
    for figure, neutral in (("ri", 0.5), ("mari", 0.5), ("croma", 0.0)):
        assert by_site[figure] < neutral < by_class[figure]
    assert clustering_score(made(0.2, 1.5, patients=4), OVER).value < -0.5


@pytest.mark.slow
def test_neighbours_of_the_same_patient_are_left_out() -> None:
    """Copies of a patch in its own patient change nothing but the counts: each patch then is there twice."""
    rows = made(1, 1, patches=1)
    alone = manifest(rows.table.assign(patient="", slide=""), OVER)["group_id"]
    assert alone.nunique() == len(rows), "patients and slides unknown: each patch by itself"
    slides = manifest(rows.table.assign(patient="", slide="s"), OVER)["group_id"]
    assert slides.nunique() == 1, "the slide where the patient is not known"
    near = made(0, 3, patients=6, patches=1)
    twin = near.table.assign(**{"class": near.table["class"].map({"A": "B", "B": "A"})})
    both = near.join(Embedded(near.features, twin.assign(sample_id="t" + near.table["sample_id"])))
    same = values(near_figures(both, OVER))["croma"]
    other = Embedded(both.features, both.table.assign(patient=both.table["sample_id"]))
    assert values(near_figures(other, OVER))["croma"] < same, "a twin of another class is nearest, unless left out"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.assign(**{"class": "A"}), "only the class A occurs"),
        (lambda rows: rows.assign(site="x"), "only one site occurs"),
        (lambda rows: rows.assign(site=""), "no patch has a known class and site"),
        (lambda rows: rows.assign(patient="p"), "one patient (or slide) holds all patches: no neighbours in others"),
        (lambda rows: Embedded(np.ones_like(rows.features), rows.table), "all patches have the same features"),
        (
            lambda rows: Embedded(np.where(np.arange(len(rows))[:, None] == 1, np.nan, rows.features), rows.table),
            "1 embeddings are not finite, first of 'Ax0x1'; mend or drop them",
        ),
    ],
)
def test_what_is_undefined_has_a_reason_p7(change, reason: str) -> None:
    found = robustness(change(made()), OVER)
    assert found["metric"].tolist() == [*NEAR, CLUSTERING, *METRICS]
    assert found["value"].isna().all()
    assert set(found["reason"]) == {reason}


@pytest.mark.slow
def test_croma_is_refused_where_patches_lack_neighbours_p7() -> None:
    rows = made()
    whole = rows.take(~((rows.table["class"] == "A") & (rows.table["site"] == "y")).to_numpy())
    found = {one.metric: one for one in near_figures(whole, OVER)}
    assert np.isfinite(found["ri"].value)
    assert np.isnan(found["croma"].value)
    assert found["croma"].reason == (
        "CRoMa is refused: 48 of 72 patches have fewer than 5 neighbours of a kind in other patients (24 of their "
        "class at other sites, 24 of other classes at their site)"
    )
    twins = Embedded(np.repeat(np.eye(2), [95, 1], axis=0), rows.table)
    assert np.isnan(values(near_figures(twins, OVER))["croma"])


def test_little_support_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Classes at sites of their own: hardly a neighbour shares one of them alone."""
    rows = made(3, 3, patches=1)
    mixed = (rows.table["class"] == "A") == (rows.table["site"] == "x")
    few = rows.take(np.flatnonzero(mixed | rows.table["patient"].str.endswith("0")).astype(np.int64))
    with caplog.at_level(logging.WARNING):
        found = {one.metric: one for one in near_figures(few, OVER)}
    assert not caplog.records
    assert found["ri_support"].value < 0.5
    assert found["ri"].reason == f"only {found['ri_support'].value:.0%} of the patches have such neighbours"
    none = near_figures(rows.take(mixed.to_numpy()), OVER)
    assert reasons(none[:6]) == {"no neighbour shares class or site alone"}
    assert values(none)["ri_support"] == 0
    assert np.isnan(values(none)["ri"]), "croma says 0.5 where it knows nothing"


def test_patches_are_drawn_in_turn_from_all_combinations() -> None:
    rows = made()
    few = rows.take(np.flatnonzero((rows.table["class"] == "A") | (rows.table.index % 8 == 0)).astype(np.int64))
    drawn = chosen(few, OVER, 24, 0).table
    counts = drawn.groupby(["class", "site"]).size()
    assert len(drawn) == 24
    assert counts["B", "x"] == counts["B", "y"] == 3, "all that there are"
    assert counts["A", "x"] == counts["A", "y"] == 9
    assert chosen(few, OVER, 24, 1).table["sample_id"].tolist() != drawn["sample_id"].tolist()


@pytest.mark.slow
def test_the_clustering_score_is_pathorobs() -> None:
    """As published: ARI with the class less ARI with the site, of k-means on features of unit length."""
    rows = made(1.5, 0.4, patients=4, patches=4)
    x = rows.features / np.linalg.norm(rows.features, axis=1, keepdims=True)
    found = KMeans(2, init="random", n_init=20, random_state=1337).fit(x).labels_
    expected = adjusted_rand_score(rows.table["class"], found) - adjusted_rand_score(rows.table["site"], found)
    assert clustering_score(rows, OVER).value == pytest.approx(expected, abs=0.05)
    lone = rows.take(((rows.table["class"] == "A") == (rows.table["site"] == "x")).to_numpy())
    assert clustering_score(lone, OVER).reason == "no two classes occur at the same two sites"


@pytest.mark.slow
def test_confounding_costs_a_probe_that_sees_the_site() -> None:
    """Oracles: nothing where the site leaves no trace, much where it leaves a strong one."""
    found = [shortcut_figures(made(*of, patients=14, patches=2), OVER, repeats=2) for of in ((3, 0), (0.5, 2))]
    free, fooled = map(values, found)
    assert free["apd"] == pytest.approx(0, abs=0.02)
    assert free["nipd"] == pytest.approx(0, abs=0.03)
    assert fooled["apd"] < -0.2
    assert fooled["nipd"] < -0.3
    assert reasons(found[0]) == {"4 strengths of confounding, one pair of classes and sites, 2 draws of patients"}


@pytest.fixture(scope="module")
def swept() -> Embedded:
    """Patients with the number 0 are one patient of all four combinations."""
    rows = made(patches=2, patients=10)
    return rows.assign(patient=rows.table["patient"].where(rows.table["patient"].str[-1] != "0", "both"))


def test_no_patient_trains_and_tests_a_sweep_p5(swept: Embedded) -> None:
    """Each patient is of one combination, and Cramer's V of its training patients is what the sweep says it is."""
    (sweep,) = sweeps(swept.table, OVER, 0)
    people = swept.table["patient"].to_numpy()[sweep.rows]
    combination = list(zip(sweep.sites, sweep.labels))
    assert len({(who, at) for who, at in zip(people, combination)}) == len(set(people))
    assert sweep.strength.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for strength, (counts, most) in zip(sweep.strength, sweep.schedule):
        grid = np.zeros((2, 2))
        for site, label, n in counts:
            grid[site, label] = n / sweep.patches
        assert grid.max() <= most
        margins = grid.sum(axis=0).prod() * grid.sum(axis=1).prod()
        assert np.linalg.det(grid) / margins**0.5 == pytest.approx(strength)


@pytest.mark.slow
def test_the_sweep_is_cromas(swept: Embedded) -> None:
    import croma

    (sweep,) = sweeps(swept.table, OVER, 0)
    x = swept.features[sweep.rows]
    asked = {"schedule": sweep.schedule, "rows_per_slide": 2, "iterations": 1, "seed": 0}
    accuracies = croma.probe_sweep(x, sweep.sites, sweep.labels, **asked)
    found = values(shortcut_figures(swept, OVER, repeats=1))
    assert found["apd"] == pytest.approx(croma.apd(accuracies), abs=1e-9)
    assert found["nipd"] == pytest.approx(croma.nipd(accuracies, sweep.strength, 0.5), abs=1e-9)


def test_too_few_patients_cannot_be_swept_p7() -> None:
    found = shortcut_figures(made(patients=4), OVER)
    assert reasons(found) == {
        "no two classes at the same two sites have 5 patients with 2 patches in each combination: confounding cannot "
        "be swept"
    }


def test_a_probe_without_skill_has_nothing_to_lose_p7() -> None:
    rows = made(0, 0, patients=5, patches=2)
    backwards = rows.features[:, :1] * 0 + np.where(np.arange(len(rows)) % 2, 1.0, -1.0)[:, None]
    found = shortcut_figures(Embedded(backwards, rows.table), OVER, repeats=1)
    assert reasons(found) == {"the balanced probe does not score above chance: there is no skill to lose"}
    assert np.isnan(list(values(found).values())).all()


@pytest.mark.slow
def test_the_facade_shows_every_figure_with_its_reading(tmp_path) -> None:
    from medi.cohort import phantom

    combinations = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
    cohort = phantom.fresh(combinations, 8, 0, "real", patches_per_slide=2)
    found = medi.robustness(cohort, attribute="site")
    shown = str(found)
    assert "Robustness of colour-texture to site" in shown
    assert "UNI 0.047" in shown
    assert "apd, nipd: no two classes" in shown, "a reason once, with all that it is about"
    assert found.to_frame()["reading"].notna().all()
    assert (found.save(tmp_path / "r") / "robustness.parquet").exists()
