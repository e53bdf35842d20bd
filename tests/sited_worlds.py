"""Gaussian worlds of classes and sites: x = class + strength * site + noise, a band of the combinations seen."""

import numpy as np
import pandas as pd

from medi.evaluation.features import Embedded

OVER = ("class", "site")


def rows_of(pairs: list[tuple[int, int]], each: int, strength: float, seed: int, d: int = 8) -> Embedded:
    """`each` rows of every (class, site), four to a patient; classes and sites lie where seed 0 puts them."""
    place = np.random.default_rng(0)
    classes, sites = 1.2 * place.normal(size=(4, d)), strength * place.normal(size=(5, d))
    label, site = np.repeat(np.array(pairs), each, axis=0).T
    x = classes[label] + sites[site] + np.random.default_rng(seed + 1).normal(size=(len(label), d))
    names = pd.Series(np.arange(len(label))).astype(str)
    patient = [f"{seed}-{a}-{b}-{i // 4}" for a, b, i in zip(label, site, np.arange(len(label)))]
    columns = {"class": [f"c{k}" for k in label], "site": [f"s{k}" for k in site], "patient": patient, "slide": patient}
    return Embedded(x, pd.DataFrame({"sample_id": f"{seed}-" + names, **columns}))


GRID = [(y, a) for y in range(4) for a in range(5)]
SEEN = [(y, a) for y, a in GRID if (a - y) % 5 < 3]
UNSEEN = [pair for pair in GRID if pair not in SEEN]
