"""What can be had from the real rows alone: each function turns a pool of a training set into another one.

Weights, resampling, GroupDRO (Sagawa et al. 2020), DFR (Kirichenko et al. 2023), Mixup (Zhang et al. 2018) and LISA
(Yao et al. 2022), each on frozen embeddings; none sees a test row.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from medi.evaluation.classify.logistic import Planes, Rows, Weights, losses, solve
from medi.evaluation.classify.probes import Pool, Solver

Method = Callable[[Pool, np.random.Generator], Pool]
Index = Int64[np.ndarray, " n"]
BAGS = 10  # balanced subsets of DFR
SMALLEST = 8  # rows of a combination in such a subset, the same ones again where it has fewer
ROUNDS, RATE = 12, 1.0  # of GroupDRO's ascent in the weights of combinations
MIXUP, LISA = 1.0, 2.0  # parameters of the Beta distribution
TRIES = 20  # draws of a partner before another kind is taken


def plain(pool: Pool, rng: np.random.Generator) -> Pool:
    """The rows as they are; class weights as the head has them."""
    return pool


def unweighted(pool: Pool, rng: np.random.Generator) -> Pool:
    """No class weights."""
    return replace(pool, balance=False)


def class_weights(pool: Pool, rng: np.random.Generator) -> Pool:
    """Every class weighs alike."""
    return replace(pool, balance=True)


def combination_weights(pool: Pool, rng: np.random.Generator) -> Pool:
    """Every class weighs alike, and in it every combination that has rows."""
    return replace(pool, weights=pool.weights.sum() * _alike(pool)[None], balance=True)


def resampled(to: int) -> Method:
    """Rows drawn again, every combination alike, until there are `to` of them: as many as with synthetic ones."""

    def method(pool: Pool, rng: np.random.Generator) -> Pool:
        extra = rng.multinomial(max(0, to - int(pool.weights.sum())), _alike(pool))
        return replace(pool, weights=pool.weights + extra)

    return method


def group_dro(pool: Pool, rng: np.random.Generator) -> Pool:
    """The least loss of the worst combination, by ascent in the combinations' weights; the planes' mean."""
    return replace(pool, solver=_dro(pool.combinations), balance=False)


def dfr(pool: Pool, rng: np.random.Generator) -> Pool:
    """The mean of probes on subsets that have equally many rows of every combination, rare ones' rows several times."""
    members = [np.flatnonzero((pool.combinations == member) & _trains(pool)) for member in _combinations_of(pool)]
    size = max(SMALLEST, min(map(len, members)))
    weights = np.zeros((BAGS, len(pool.folds)))
    for bag in weights:
        for member in members:
            np.add.at(bag, rng.choice(member, size, replace=len(member) < size), 1)
    return replace(pool, weights=weights)


def mixup(pool: Pool, rng: np.random.Generator) -> Pool:
    """As many rows as there are, each between two of any class and combination."""
    first = _draw(pool, rng)
    second, _ = _partners(pool, first, rng, lambda i, j: np.ones(len(i), dtype=bool))
    return _mixed(pool, first, second, rng.beta(MIXUP, MIXUP, len(first)))


def lisa(pool: Pool, rng: np.random.Generator) -> Pool:
    """Half between two sites in one class, half between two classes at one site; where one is missing, the other."""
    first = _draw(pool, rng)
    labels = pool.targets.argmax(axis=1)
    kinds = (
        lambda i, j: (labels[i] == labels[j]) & (pool.places[i] != pool.places[j]),
        lambda i, j: (labels[i] != labels[j]) & (pool.places[i] == pool.places[j]),
    )
    (across, found), (within, there) = (_partners(pool, first, rng, kind) for kind in kinds)
    wanted = rng.random(len(first)) < 0.5
    second = np.where((wanted & found) | ~there, across, within)
    return _mixed(pool, first, second, rng.beta(LISA, LISA, len(first)))


def _trains(pool: Pool) -> Bool[np.ndarray, " n"]:
    return pool.weights.sum(axis=0) > 0


def _combinations_of(pool: Pool) -> Int64[np.ndarray, " k"]:
    return np.unique(pool.combinations[_trains(pool)])


def _alike(pool: Pool) -> Float64[np.ndarray, " n"]:
    """A share per row, sum 1: classes alike, in each its combinations alike, in each its rows alike."""
    weights = pool.weights.sum(axis=0)
    labels = pool.targets.argmax(axis=1)
    mass = np.bincount(pool.combinations, weights)[pool.combinations]
    share = np.divide(weights, mass, out=np.zeros_like(weights), where=mass > 0)
    members = np.bincount(labels, share)[labels]
    return share / members / np.bincount(labels, share / members).astype(bool).sum()


def _dro(combinations: Index) -> Solver:
    member = (combinations == np.unique(combinations)[:, None]).astype(np.float32)

    def solver(rows: Rows, weights: Weights, c: Float64[np.ndarray, " m"], start: Planes | None = None) -> Planes:
        mass = weights @ member.T
        there = mass > 0
        sums = np.where(there, mass, 1)
        q, total, found = there / there.sum(axis=1, keepdims=True), weights.sum(axis=1, keepdims=True), []
        for _ in range(ROUNDS):
            shares = (weights * ((q / sums) @ member) * total).astype(np.float32)
            start = solve(rows, shares, c, start, tolerance=1e-3)
            found.append(start)
            loss = np.where(there, ((weights * losses(rows.scores(start), rows.targets)[0]) @ member.T) / sums, 0)
            q = q * np.exp(RATE * (loss - loss.max(axis=1, keepdims=True)))
            q /= q.sum(axis=1, keepdims=True)
        late = found[ROUNDS // 2 :]
        return Planes(np.mean([p.weights for p in late], axis=0), np.mean([p.bias for p in late], axis=0))

    return solver


def _draw(pool: Pool, rng: np.random.Generator) -> Index:
    """As many rows as train, drawn with classes alike."""
    weights = pool.balanced(pool.weights[:1])[0].astype(np.float64)
    return np.sort(rng.choice(len(weights), int(_trains(pool).sum()), p=weights / weights.sum()))


def _partners(
    pool: Pool, first: Index, rng: np.random.Generator, fits: Callable[[Index, Index], Bool[np.ndarray, " n"]]
) -> tuple[Index, Bool[np.ndarray, " n"]]:
    """A partner in the same fold for each row, and whether it fits; itself where none was found.

    Pairs stay within a fold so that no mixture carries a validation row into training.
    """
    second, found = first.copy(), np.zeros(len(first), dtype=bool)
    for fold in np.unique(pool.folds[first]):
        candidates = np.flatnonzero((pool.folds == fold) & _trains(pool))
        open_ = np.flatnonzero(pool.folds[first] == fold)
        for _ in range(TRIES):
            drawn = candidates[rng.integers(len(candidates), size=len(open_))]
            good = fits(first[open_], drawn)
            second[open_[good]], found[open_[good]] = drawn[good], True
            open_ = open_[~good]
    return second, found


def _mixed(pool: Pool, first: Index, second: Index, share: Float64[np.ndarray, " n"]) -> Pool:
    """The pool with mixtures that train in place of the rows, which still validate."""
    part = share[:, None]
    x = part * pool.rows.x[first] + (1 - part) * pool.rows.x[second]
    targets = np.concatenate([pool.targets, part * pool.targets[first] + (1 - part) * pool.targets[second]])
    weights = np.concatenate([np.zeros(len(pool.folds)), np.ones(len(first))])[None]
    return replace(
        pool,
        rows=Rows.of(np.concatenate([pool.rows.x, x]), targets),
        targets=targets,
        weights=weights,
        folds=np.append(pool.folds, pool.folds[first]),
        checks=np.append(pool.checks, np.zeros(len(first), dtype=bool)),
        combinations=np.append(pool.combinations, pool.combinations[first]),
        places=np.append(pool.places, pool.places[first]),
    )
