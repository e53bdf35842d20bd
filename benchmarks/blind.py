"""Can a reader tell made patches from real ones? Grids in random order with a key apart, and the score of a reading.

python benchmarks/blind.py RUN GRIDS                    24 real and 24 made patches of each level: GRIDS/*.png, key.json
python benchmarks/blind.py RUN GRIDS --read READ.json   shares told right; READ.json: {"PNG's stem": [numbers of made]}
python benchmarks/blind.py RUN GRIDS --quick            draws the grids and scores a reading that guesses


The reader sees the grids alone, not the key, and names 24 of each. Real patches are of test slides, slides in turn.
Grids hold real patches: they are not for publication where the data's terms forbid it. Intervals are Wilson's. The
last line of a score is one JSON object.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import binomtest

from common import figure, report
from medi.cohort.table import Cohort, slides_in_turn
from medi.core.files import read_json, safe_name, write_json
from medi.study.context import reopen

EACH, POOL, COLUMNS, SIDE, SEED = 24, 60, 8, 128, 11  # patches of a kind; slides in turn, the first POOL; px of a patch


def grids(run: Path, out: Path) -> None:
    study, rng = reopen(str(run)), np.random.default_rng(SEED)
    sets, attribute = study.sets(), study.settings.attribute
    key: dict[str, list[int]] = {}
    for level in sorted(set(sets["reference"].table[attribute].astype(str))):
        patches = [image for name in ("reference", "medi") for image in drawn(sets[name], attribute, level, name, rng)]
        order = rng.permutation(len(patches))
        key[safe_name(level)] = [place + 1 for place, i in enumerate(order) if i >= EACH]
        page = Image.new("RGB", (COLUMNS * (SIDE + 12), len(order) // COLUMNS * (SIDE + 28)), "white")
        for place, i in enumerate(order):
            x, y = place % COLUMNS * (SIDE + 12), place // COLUMNS * (SIDE + 28)
            page.paste(Image.fromarray(patches[i]).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x + 6, y + 18))
            ImageDraw.Draw(page).text((x + 8, y + 3), str(place + 1), fill="black")
        out.mkdir(parents=True, exist_ok=True)
        page.save(out / f"{safe_name(level)}.png")
    write_json(out / "key.json", key)


def drawn(cohort: Cohort, attribute: str, level: str, name: str, rng: np.random.Generator) -> list[np.ndarray]:
    """EACH patches of a level at random, real ones among the first POOL with slides in turn."""
    rows = np.flatnonzero((cohort.table[attribute].astype(str) == level).to_numpy())
    if name == "reference":
        rows = rows[slides_in_turn(cohort.table.iloc[rows], ["class", attribute])][:POOL]
    return list(cohort.images[rng.choice(rows, EACH, replace=False)])


def score(key: dict[str, list[int]], read: dict[str, list[int]]) -> None:
    for name in key:
        if len(set(read.get(name, ()))) != EACH:
            raise SystemExit(f"{name}: the reading must name {EACH} patches, it names {len(set(read.get(name, ())))}")
    right, figures = {name: 2 * len(set(made) & set(read[name])) for name, made in key.items()}, {}
    for name, n in [*right.items(), ("all", sum(right.values()))]:
        of = 2 * EACH * (len(right) if name == "all" else 1)
        interval = binomtest(n, of).proportion_ci(method="wilson")
        share = figure([n / of], "", None, of, "told right; chance 0.5; range: 95 % interval")
        figures[name] = share | {"spread": [round(float(interval.low), 4), round(float(interval.high), 4)]}
    report("blind", figures, ("numpy", "scipy"))


def guess(key: dict[str, list[int]]) -> dict[str, list[int]]:
    """A reading of someone who looks at nothing: the first EACH patches of every grid."""
    return {name: list(range(1, EACH + 1)) for name in key}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("grids", type=Path)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--quick", action="store_true", help="draw, guess and score")
    options = parser.parse_args()
    if options.read is None:
        grids(options.run, options.grids)
    if options.read or options.quick:
        key = read_json(options.grids / "key.json")
        score(key, read_json(options.read) if options.read else guess(key))


if __name__ == "__main__":
    main()
