"""Does `medi stress` find a planted shortcut? A classifier of confounded patches against one of crossed ones.

python benchmarks/stress.py [--runs runs/study] [--seeds 0 1 2] [--per-combination 3] [--quick]

The same probe is trained on phantom patches whose class gives the site away (two sites a class, as DESIGN has it) and
on as many patches of all combinations. Both are shown fresh patches at every site by the MeDi model of a finished run
of `medi demo`. The last line is one JSON object.
"""

import argparse
from pathlib import Path
from typing import Any

from common import figure, report
from medi.cohort import phantom
from medi.cohort.phantom.factors import DESIGN
from medi.sampling.transfer import TransferSettings
from medi.stress.classifiers import load_classifier
from medi.stress.stress import stress

Intervals = dict[str, tuple[float, float, float]]
HOME = {class_: sorted(phantom.SITES, key=lambda s: -DESIGN[s][i])[:2] for i, class_ in enumerate(phantom.CLASSES)}
PER_CLASS = 800  # training patches of either classifier; with 160 the crossed one is weak, and flips where it is unsure


def sets(seed: int) -> dict[str, list[tuple[str, str]]]:
    """The combinations that each classifier learns from."""
    confounded = [(class_, site) for class_, sites in HOME.items() for site in sites]
    return {"confounded": confounded, "crossed": list(phantom.COMBINATIONS)}


def run(folder: Path, seed: int, per_combination: int, per_class: int, steps: int, out: Path) -> dict[str, Intervals]:
    model = folder / "models" / "medi" / "model.safetensors"
    shown = phantom.fresh(phantom.COMBINATIONS, per_combination, seed, "shown", patches_per_slide=1)
    found = {}
    for name, combinations in sets(seed).items():
        each = per_class * len(phantom.CLASSES) // len(combinations)
        train = phantom.fresh(combinations, each, seed, name)
        train.save(out / f"seed{seed}" / name)
        asked = load_classifier(f"probe:{out / f'seed{seed}' / name}", (), seed=seed)
        place, settings = out / f"seed{seed}" / f"stress {name}", TransferSettings(steps)
        found[name] = stress(asked, model, shown, "site", phantom.SITES, place, settings).figures
        print(name, {key: round(value[0], 4) for key, value in found[name].items()}, flush=True)
    return found


def figures(runs: list[dict[str, Intervals]]) -> dict[str, dict[str, Any]]:
    n, made = len(runs), {}
    for name in ("confounded", "crossed"):
        for key in ("flip_rate change", "flip_rate floor", "excess_flips change", "accuracy as is", "accuracy change"):
            values = [run[name][key][0] for run in runs]
            made[f"{name}_{key.replace(' ', '_')}"] = figure(values, "", None, n, "all sites")
    ratio = [r["confounded"]["flip_rate change"][0] / r["crossed"]["flip_rate change"][0] for r in runs]
    return made | {"flips_ratio": figure(ratio, "", ">= 5", n, "confounded / crossed, floor not taken off")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-combination", type=int, default=3)
    parser.add_argument("--steps", type=int, default=TransferSettings().steps)
    parser.add_argument("--out", type=Path, default=Path("runs/stress"))
    parser.add_argument("--quick", action="store_true", help="small classifiers, a patch per combination, 2 steps")
    options = parser.parse_args()
    per_class = PER_CLASS
    if options.quick:
        per_class, options.seeds, options.per_combination, options.steps = 48, options.seeds[:1], 1, 2
    runs = [
        run(options.runs / f"seed{seed}", seed, options.per_combination, per_class, options.steps, options.out)
        for seed in options.seeds
    ]
    report("stress", figures(runs), ("torch", "diffusers", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
