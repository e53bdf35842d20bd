"""Heads: each against a closed form or an independent implementation, where it must win and where it must not (P5, P7).

Worlds are Gaussian: x = class + strength * site + noise, combinations beside a band of the grid held out.
"""

import importlib

import numpy as np
import pytest

from medi.evaluation.classify import logistic as solver
from medi.evaluation.classify.heads import HEADS, Head, Setting, Tuned, Undefined, energy
from medi.evaluation.classify.heads.adversary import NOTHING, Game, adversary
from medi.evaluation.classify.heads.contract import predicted
from medi.evaluation.classify.heads.inner import BY_PATIENTS, NEITHER, inner_folds, pairs_of, parts
from medi.evaluation.classify.heads.leace import leace, leace_within
from medi.evaluation.classify.heads.sites import combat, two_way
from medi.evaluation.classify.probes import Probe, balanced_score, codes, is_real
from medi.evaluation.features import Embedded
from sited_worlds import GRID, OVER, SEEN, UNSEEN, rows_of

SITED = [name for name in HEADS if not name.startswith("logistic")]


def score(head: str | Head, train: Embedded, test: Embedded) -> float:
    hits = predicted((HEADS[head] if isinstance(head, str) else head)(train, OVER, 0), test) == test.table[
        "class"
    ].to_numpy(dtype=object)
    return balanced_score(hits, codes(test.table, ["class"]), codes(test.table, OVER))


@pytest.mark.slow
@pytest.mark.parametrize("head", [name for name in SITED if name != "leace"])
def test_a_head_wins_on_unseen_combinations_where_the_site_adds_up(head: str) -> None:
    train, test = rows_of(SEEN, 40, 4.0, 1), rows_of(UNSEEN, 60, 4.0, 2)
    assert score(head, train, test) > score("logistic", train, test) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("head", [name for name in SITED if name != "leace"])
def test_a_head_loses_little_where_there_is_no_site_effect(head: str) -> None:
    train, test = rows_of(SEEN, 40, 0.0, 1, d=24), rows_of(GRID, 40, 0.0, 2, d=24)
    assert score(head, train, test) > score("logistic", train, test) - 0.02


@pytest.mark.slow
def test_erasing_the_site_outright_takes_the_class_along_where_they_go_together() -> None:
    """Where LEACE must not win: in a band of combinations the site tells the class, so that it goes with the site."""
    train, test = rows_of(SEEN, 40, 0.0, 1, d=24), rows_of(GRID, 40, 0.0, 2, d=24)
    assert score("leace", train, test) < score("leace_within", train, test) - 0.1


@pytest.mark.slow
def test_an_adversary_without_measure_takes_the_class_along_and_is_not_chosen() -> None:
    """Where it must not win: the encoder can hide the site only with the class; the inner hold-out finds that out."""
    train, test = rows_of(SEEN, 20, 0.0, 1, d=24), rows_of(GRID, 20, 0.0, 2, d=24)
    heavy = Tuned(adversary, (Setting(1.0, adversary=1e6),))
    assert score(heavy, train, test) < score("adversary", train, test) - 0.3
    assert HEADS["adversary"](train, OVER, 0).setting.adversary < 1


@pytest.mark.slow
def test_crm_recovers_unseen_combinations_of_additive_energies() -> None:
    """Equal Gaussians about class + site: the best rule is known, and CRM comes near it where it never was."""
    place, test = np.random.default_rng(0), rows_of(UNSEEN, 200, 4.0, 2)
    classes, sites = 1.2 * place.normal(size=(4, 8)), 4.0 * place.normal(size=(5, 8))
    y, a = pairs_of(test.table, OVER).T
    apart = test.features[:, None] - (classes[None] + sites[a][:, None])
    best = (np.square(apart).sum(axis=2).argmin(axis=1) == y).mean()
    assert score("crm", rows_of(SEEN, 60, 4.0, 1), test) > best - 0.02


@pytest.mark.slow
def test_crm_gives_a_patch_of_an_unknown_site_the_mean_of_its_sites() -> None:
    """The class scores of a row without a known site sum over sites; they are those of no single one."""
    train = rows_of(SEEN, 30, 2.0, 1)
    fitted = HEADS["crm"](train, OVER, 0)
    new = fitted.probabilities(train.features, train.table.assign(site="elsewhere"))
    assert new.sum(axis=1) == pytest.approx(1)
    assert (new.argmax(axis=1) == codes(train.table, ["class"])).mean() > 0.8


def test_the_bias_of_a_seen_combination_is_its_share_less_its_own() -> None:
    """At the optimum sum_i p(z | x_i) = n_z, so that B(z) = log share(z) - b(z) in closed form."""
    from medi.evaluation.classify.heads.crm import extrapolated

    train = rows_of(SEEN[:-2], 20, 1.0, 1)
    seen, targets = np.unique(pairs_of(train.table, OVER), axis=0, return_inverse=True)
    members = np.concatenate([np.eye(4)[seen[:, 0]], np.eye(5)[seen[:, 1]]], axis=1)
    problem = energy.Problem(train.features, targets.ravel(), members, np.zeros((1, len(seen))))
    (plane,) = problem.path([0.1])
    found = extrapolated(problem, plane, 4)[seen[:, 0], seen[:, 1]]
    assert found == pytest.approx(np.log(np.bincount(targets.ravel()) / len(train)) - plane.bias, abs=5e-3)


def test_additive_scores_are_scikit_learns_where_each_output_is_its_own_part() -> None:
    from sklearn.linear_model import LogisticRegression

    train = rows_of(SEEN, 30, 1.0, 1)
    labels = codes(train.table, ["class"])
    x = train.features - train.features.mean(axis=0)
    (plane,) = energy.Problem(x, labels, np.eye(4), np.zeros((1, 4))).path([0.05])
    plain = LogisticRegression(C=0.05, tol=1e-8, max_iter=5000).fit(x, labels)
    assert plane.weights == pytest.approx(plain.coef_, abs=5e-3)


def test_two_way_is_least_squares_on_dummies() -> None:
    """Against numpy's least squares; a row of another site stays as it is."""
    train = rows_of(SEEN, 20, 1.0, 1)
    y, a = pairs_of(train.table, OVER).T
    dummies = np.concatenate([np.eye(4)[y], np.eye(5)[a][:, 1:]], axis=1)
    effects = np.linalg.lstsq(dummies, train.features, rcond=None)[0][4:]
    shifts = two_way(train, OVER).shifts
    assert shifts[1:] - shifts[0] == pytest.approx(effects, abs=1e-9)
    new = Embedded(train.features, train.table.assign(site="elsewhere"))
    assert (two_way(train, OVER).apply(new) == train.features).all()


@pytest.mark.parametrize("within", [False, True])
def test_leace_leaves_no_covariance_with_the_site_at_the_least_change(within: bool) -> None:
    """The change, in the norm of the inverse covariance, is what a regression on the site explains of whitened rows."""
    train = rows_of(SEEN, 30, 1.0, 1)
    y, a = pairs_of(train.table, OVER).T
    moved = leace(train, OVER, within=within).apply(train)
    groups = np.eye(4)[y] if within else np.ones((len(train), 1))

    def beside(values: np.ndarray) -> np.ndarray:
        return values - groups @ np.linalg.lstsq(groups, values, rcond=None)[0]

    z, x = beside(np.eye(5)[a]), beside(train.features)
    assert np.abs(z.T @ beside(moved)).max() / len(train) < 1e-9
    whitened = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T
    covariance = whitened.T @ z
    basis = np.linalg.svd(covariance)[0][:, : np.linalg.matrix_rank(covariance)]
    least = np.square(whitened @ basis).sum()  # any map to zero covariance takes at least these directions away
    change = (x - beside(moved)) @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T
    assert np.square(change).sum() == pytest.approx(least, rel=1e-9)


def test_leace_is_concept_erasures() -> None:
    reference = pytest.importorskip("concept_erasure")
    import torch

    train = rows_of(SEEN, 30, 1.0, 1)
    x, z = torch.from_numpy(train.features), torch.from_numpy(np.eye(5)[pairs_of(train.table, OVER)[:, 1]])
    eraser = reference.LeaceEraser.fit(x, z, shrinkage=False, svd_tol=1e-8)
    assert leace(train, OVER).apply(train) == pytest.approx(eraser(x).numpy(), abs=1e-6)


def explained(h: np.ndarray, dummies: np.ndarray) -> float:
    """The variance of standardised dummies that least squares explains from h."""
    z = (dummies - dummies.mean(axis=0)) / dummies.std(axis=0)
    h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    return float((h @ np.linalg.lstsq(h, z, rcond=None)[0]).var(axis=0).sum())


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_no_linear_encoder_does_better_against_the_adversary(weight: float) -> None:
    """Both players answer by least squares; encoders near the solution and anywhere else gain no more."""
    train, rng = rows_of(SEEN, 20, 1.0, 1), np.random.default_rng(0)
    y, a = pairs_of(train.table, OVER).T

    def gain(h: np.ndarray) -> float:
        return explained(h, np.eye(4)[y]) - weight * explained(h, np.eye(5)[a])

    found = Game.of(train, OVER).encoder(1e9, weight)
    best, x = gain(found.apply(train)), found.scaled(train.features)
    others = [found.axes + 0.1 * rng.normal(size=found.axes.shape) for _ in range(20)]
    others += [rng.normal(size=(8, rank)) for rank in range(1, 9)]
    assert best > max(gain(x @ axes) for axes in others) + 1e-3


def test_an_adversary_without_measure_cannot_read_the_site_linearly() -> None:
    train = rows_of(SEEN, 30, 1.0, 1)
    sites = np.eye(5)[pairs_of(train.table, OVER)[:, 1]]
    light, heavy = (Game.of(train, OVER).encoder(1e9, weight).apply(train) for weight in (1e-6, 1e9))
    assert explained(light, sites) > 0.5
    assert explained(heavy, sites) < 1e-6
    assert heavy.std(axis=0).max() > 0.5


def test_where_the_site_is_all_that_varies_the_adversary_leaves_nothing() -> None:
    rows = rows_of(SEEN, 20, 1.0, 1)
    site = pairs_of(rows.table, OVER)[:, 1:].astype(np.float64)
    with pytest.raises(Undefined, match=NOTHING):
        Tuned(adversary, (Setting(1.0, adversary=1e6),))(Embedded(site, rows.table), OVER, 0)


def test_combat_without_a_prior_is_each_sites_own_mean_and_variance() -> None:
    """With many rows of sites that differ the prior counts for nothing: gamma and delta are those of the residuals."""
    train = rows_of(SEEN, 1500, 1.0, 1, d=4)
    y, a = pairs_of(train.table, OVER).T
    train = Embedded(train.features * np.random.default_rng(0).uniform(0.3, 3, (5, 4))[a], train.table)
    found = combat(train, OVER)
    dummies = np.concatenate([np.eye(4)[y], np.eye(5)[a][:, 1:]], axis=1)
    effects = np.linalg.lstsq(dummies, train.features, rcond=None)[0]
    rest = train.features - dummies @ effects
    own = np.stack([rest[a == one].std(axis=0) for one in range(5)]) / rest.std(axis=0)
    assert found.scales == pytest.approx(own, abs=2e-3)
    assert found.shifts[1:] - found.shifts[0] == pytest.approx(effects[4:], abs=1e-2)


def test_combats_estimates_are_the_fixed_point_of_its_posterior() -> None:
    """The two equations of Johnson et al. (2007), written down once more for one site with few rows."""
    from medi.evaluation.classify.heads.sites import _posterior

    z = np.random.default_rng(0).normal(size=(6, 30)) * np.geomspace(0.5, 2, 30) + 0.3
    gamma, delta = _posterior(z)
    n, g, v = len(z), z.mean(axis=0), z.var(axis=0, ddof=1)
    mean, of_variance, t2 = v.mean(), v.var(ddof=1), g.var(ddof=1)
    prior = (2 * of_variance + mean**2) / of_variance, (mean * of_variance + mean**3) / of_variance
    assert gamma == pytest.approx((n * t2 * g + delta * g.mean()) / (n * t2 + delta), abs=1e-5)
    assert delta == pytest.approx((prior[1] + np.square(z - gamma).sum(axis=0) / 2) / (n / 2 + prior[0] - 1), rel=1e-5)


def test_combat_is_neurocombats() -> None:
    """Its estimates of each site, class as covariate; centred, as only the differences of sites move a row."""
    reference = pytest.importorskip("neuroCombat")
    train = rows_of(SEEN, 6, 1.0, 1)
    covars = train.table[["class", "site"]]
    found = reference.neuroCombat(train.features.T, covars, "site", categorical_cols=["class"])["estimates"]
    mine = combat(train, OVER)
    sigma = np.sqrt(found["var.pooled"]).ravel()
    assert mine.shifts == pytest.approx(found["gamma.star"] * sigma, abs=1e-3)
    assert mine.scales**2 == pytest.approx(found["delta.star"], rel=1e-3)


def test_the_logistic_head_is_todays_probe_to_the_digit() -> None:
    train = rows_of(SEEN, 20, 1.0, 1)
    found, probe = HEADS["logistic"](train, OVER, 3), Probe.fit(train, over=OVER, seed=3)
    assert (found.probabilities(train.features, train.table) == probe.probabilities(train.features)).all()


# --- the inner hold-out ----------------------------------------------------------------------------------------------


def test_inner_folds_leave_combinations_out_and_keep_patients_together() -> None:
    """No row of a tested combination and no patient who tests trains; others stay connected; synthetic rows train."""
    real = rows_of(SEEN, 12, 1.0, 1)
    made = rows_of(UNSEEN, 4, 1.0, 2)
    both = real.join(made.assign(origin="model", patient="", slide=""))
    found, reason = inner_folds(both.table, OVER, 0)
    assert len(found) > 1
    assert reason == ""
    combination, owner = codes(both.table, OVER), both.table["patient"].to_numpy(dtype=object)
    for fold in found:
        assert not set(combination[fold.tests]) & set(combination[fold.trains])
        assert not set(owner[fold.tests]) & set(owner[fold.trains])
        assert fold.trains[len(real) :].all()
        assert parts(np.unique(pairs_of(real.table, OVER)[fold.trains[: len(real)]], axis=0)) == 1
    assert np.sum([fold.tests for fold in found], axis=0).max() == 1


def test_patients_with_several_combinations_test_or_train_and_not_both() -> None:
    """Each patient has two classes at one site, as with patches of one slide: half of them train the other class."""
    pairs = [(y, a) for y in range(2) for a in range(4)]
    rows = rows_of(pairs, 16, 1.0, 1)
    rows = rows.assign(patient=rows.table["site"] + "-" + (np.arange(len(rows)) % 4).astype(str))
    found, _ = inner_folds(rows.table, OVER, 0)
    assert len(found) > 1
    for fold in found:
        assert not set(rows.table["patient"][fold.tests]) & set(rows.table["patient"][fold.trains])
        assert set(rows.table["site"][fold.trains]) == set(rows.table["site"])


def test_too_few_combinations_are_chosen_over_patients_with_a_reason() -> None:
    chain = rows_of([(0, 0), (0, 1), (1, 1)], 12, 1.0, 1)  # without any of them, the others fall apart
    assert inner_folds(chain.table, OVER, 0)[1] == BY_PATIENTS
    assert BY_PATIENTS in HEADS["two_way"](chain, OVER, 0).reason
    alone = chain.assign(patient="one", slide="one")
    assert inner_folds(alone.table, OVER, 0) == ([], NEITHER)
    assert NEITHER in HEADS["two_way"](alone, OVER, 0).reason


def test_rows_of_a_table_without_origin_stay_real_beside_synthetic_ones() -> None:
    """A real cohort need not say that it is real: its patients choose C also where synthetic rows are joined."""
    real = rows_of(SEEN, 4, 1.0, 1)
    both = real.join(real.assign(origin="model"))
    assert is_real(both.table).tolist() == [True] * len(real) + [False] * len(real)


# --- bad input: a reason, never a number that looks fine (P7) --------------------------------------------------------


@pytest.mark.parametrize("head", SITED)
@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(0, 0), (1, 1), (2, 2), (0, 3)], "has one class"),
        ([(0, 0), (0, 1), (1, 2), (1, 3)], "has one class"),
        ([(0, 0), (1, 0), (0, 1), (2, 2), (3, 2)], "2 parts without a common level"),
        ([(0, 0), (1, 0)], "1 level of site"),
    ],
    ids=["one combination a site", "sites in one class", "nothing identifiable", "one site"],
)
def test_what_cannot_tell_a_site_from_a_class_has_a_reason(
    head: str, pairs: list[tuple[int, int]], reason: str
) -> None:
    with pytest.raises(Undefined, match=reason):
        HEADS[head](rows_of(pairs, 16, 1.0, 1), OVER, 0)


def test_no_attribute_has_a_reason() -> None:
    with pytest.raises(Undefined, match="no column beside the class"):
        HEADS["two_way"](rows_of(SEEN, 4, 1.0, 1), ("class",), 0)


@pytest.mark.parametrize("head", ["leace", "leace_within"])
def test_fewer_rows_than_dimensions_have_a_reason(head: str) -> None:
    with pytest.raises(Undefined, match="36 training patches for 40 dimensions"):
        HEADS[head](rows_of(SEEN, 3, 1.0, 1, d=40), OVER, 0)


def test_a_site_with_two_patches_has_no_variance_for_combat() -> None:
    rows = rows_of([(0, 0), (1, 0), (0, 1), (1, 1)], 20, 1.0, 1)
    with pytest.raises(Undefined, match="s1 has 2 training patches"):
        HEADS["combat"](rows.take(np.r_[0:40, 40:41, 60:61]), OVER, 0)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_head_that_does_not_converge_has_a_reason(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "ITERATIONS", 0)
    monkeypatch.setattr(energy, "ITERATIONS", 1)
    with pytest.raises(Undefined, match="did not converge"):
        HEADS[head](rows_of(SEEN, 12, 4.0, 1), OVER, 0)


def test_combat_says_that_its_iteration_did_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = importlib.import_module("medi.evaluation.classify.heads.sites")
    monkeypatch.setattr(sites, "ROUNDS", 1)
    with pytest.raises(Undefined, match="ComBat did not converge in 1 rounds"):
        HEADS["combat"](rows_of(SEEN, 12, 1.0, 1), OVER, 0)


def test_erased_within_classes_and_outright_are_two_heads() -> None:
    train = rows_of(SEEN, 20, 1.0, 1)
    assert not np.allclose(leace(train, OVER).matrix, leace_within(train, OVER).matrix)
