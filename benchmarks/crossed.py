"""Two attributes or one: site and scanner conditioned apart, against their joint level, on a phantom that crosses them.

python benchmarks/crossed.py [--seeds 0 1 2] [--images 60000] [--out runs/crossed] [--quick]

Six sites (stains) x four scanners (blur, gain, noise, JPEG), any tissue at any of them. Each site lacks one scanner
altogether ("unseen pair": all four classes), and of the other pairs two thirds lack one class ("unseen class"). One
model is conditioned on class, site and scanner, the other, trained alike, on class and the pair. For a pair that it
never met the latter gets the mean of the levels that share its site and of those that share its scanner, half each.
Mean Frechet distances per combination (colour-texture, n images a side, n patches of n / 10 slides) beside the floor,
that of other slides. Models train two at once, one thread each, and are kept in --out. The last line is one JSON
object; spreads are over seeds.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from common import figure, report
from medi.cohort import phantom
from medi.cohort.audit import audit
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.files import read_table, write_table
from medi.core.seeds import generator
from medi.evaluation.encoders import embed, encoder
from medi.evaluation.fidelity.frechet import frechet_distance
from medi.sampling.generate import generate
from medi.study.settings import embedded_study
from medi.training.loop import train

SITES = ("Alder", "Birch", "Cedar", "Elm", "Hazel", "Maple")
SCANNERS = ("Cedar", "Hazel", "Rowan", "Willow")  # the phantom's, which there belong to sites
PER_SLIDE = 10
KINDS = {"apart": ("site", "scanner"), "joint": ("pair",)}  # what each model is conditioned on, beside the class
GROUPS = ("seen", "unseen class", "unseen pair")
Combination = tuple[str, str, str]  # class, site, scanner


@dataclass(frozen=True)
class Design:
    """Which group each combination is of."""

    groups: dict[Combination, str]

    @classmethod
    def of(cls, seed: int) -> "Design":
        groups = {}
        for (i, site), (j, scanner), (k, class_) in product(*map(enumerate, (SITES, SCANNERS, phantom.CLASSES))):
            is_new_pair, lacks_class = (i + seed) % 4 == j, (i + j) % 3 and (i + 2 * j + seed) % 4 == k
            groups[class_, site, scanner] = GROUPS[2 if is_new_pair else 1 if lacks_class else 0]
        return cls(groups)

    def combinations(self, group: str) -> list[Combination]:
        return [combination for combination, found in self.groups.items() if found == group]


def drawn(combinations: list[Combination], per_combination: int, seed: int, stream: str) -> Cohort:
    """Patches of each combination from slides of its own; the columns site, scanner and pair."""
    rows, images, drawing = [], [], phantom.Seeds(seed, seed, seed)
    for class_, site, scanner in combinations:
        for number in range(per_combination):
            slide = f"{site}-{scanner}-{class_}-{stream}.{seed}-{number // PER_SLIDE}"
            name = f"{slide}-{number % PER_SLIDE}"
            group = str(generator("crossed", slide).choice(phantom.GROUPS))
            section = phantom.cut(class_, group, slide, name, seed, 32)
            optics = phantom.SCANNERS[scanner]
            images.append(phantom.render(section, phantom.STAINS[site], optics, slide, name, drawing))
            rows.append({"sample_id": name, "class": class_, "patient": slide, "slide": slide, "site": site})
            rows[-1] |= {"scanner": f"scanner {scanner}", "noise_id": name}
    table = pd.DataFrame(rows).assign(image="", mpp="1.0", split="train", origin="real")
    table["pair"] = table["site"] + " / " + table["scanner"]
    names = ("site", "scanner", "pair")
    attributes = tuple(Attribute(name, levels=tuple(sorted(set(table[name])))) for name in names)
    return Cohort(table, Schema(Attribute("class", levels=phantom.CLASSES), attributes), Pixels.of(np.stack(images)))


def training_set(seed: int, quick: bool) -> Cohort:
    return drawn(Design.of(seed).combinations("seen"), 2 if quick else 120, seed, "train")


def trained(seed: int, kind: str, out: Path, images: int, quick: bool) -> Path:
    """The model of one kind."""
    torch.set_num_threads(1)
    study, cohort = embedded_study(quick), training_set(seed, quick)
    recipe = replace(study.training, images=images)
    recipe = replace(recipe, images=256, save_every=256, warmup=16) if quick else recipe
    return train(cohort, out, study.network, recipe, cohort.schema.restrict(list(KINDS[kind])), seed)


def plan(combinations: list[Combination], n: int, known: set[str]) -> pd.DataFrame:
    """n rows of each combination for both models; a pair that is not known becomes a mix."""
    rows = []
    for class_, site, scanner in combinations:
        full = f"scanner {scanner}"
        asked = {"class": class_, "site": site, "scanner": full, "pair": _pair(site, full, known)}
        names = [f"{class_} {site} {scanner} {i}" for i in range(n)]
        rows += [asked | {"sample_id": name, "noise_id": name} for name in names]
    return pd.DataFrame(rows)


def _pair(site: str, scanner: str, known: set[str]) -> str:
    if f"{site} / {scanner}" in known:
        return f"{site} / {scanner}"
    same_site = sorted(name for name in known if name.startswith(f"{site} / "))
    same_scanner = sorted(name for name in known if name.endswith(f" / {scanner}"))
    shares = [(name, 0.5 / len(group)) for group in (same_site, same_scanner) for name in group]
    return "+".join(f"{name}:{share:.6f}" for name, share in shares)


def measured(seed: int, models: dict[str, Path], out: Path, n: int, quick: bool) -> pd.DataFrame:
    """A row per combination: its group, the floor, and the distance of each model."""
    design, combinations, few = Design.of(seed), [], 4 if quick else 24
    for group in GROUPS:
        found = design.combinations(group)
        combinations += [found[i] for i in generator("cells", seed, group).permutation(len(found))[:few]]
    extractor = encoder("colour-texture")
    known = set(training_set(seed, quick).table["pair"])
    sets = {name: drawn(combinations, n, seed, name) for name in ("reference", "floor")}
    rows = plan(combinations, n, known)
    sampling = embedded_study(quick).sampling
    for kind, model in models.items():
        made = generate(model, rows, out / f"samples-{kind}-{seed}", seed, sampling)
        assert made is not None, "this process alone samples all batches"
        sets[kind] = made
    features = {name: embed(cohort, extractor).reshape(len(combinations), n, -1) for name, cohort in sets.items()}
    return pd.DataFrame(
        {"seed": seed, "group": design.groups[combination]}
        | dict(zip(("class", "site", "scanner"), combination))
        | {k: frechet_distance(features["reference"][i], features[k][i]) for k in ("floor", *KINDS)}
        for i, combination in enumerate(combinations)
    )


def figures(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, object]]]:
    n = table["seed"].nunique()
    for group, part in table.groupby("group", sort=False):
        name, means = str(group).replace(" ", "_"), part.groupby("seed")[["floor", *KINDS]].mean()
        of = f"{len(part)} combinations"
        for arm in means:
            yield f"{name}_{arm}", figure(means[arm].tolist(), "", None, n, f"mean Frechet distance, {of}")
        excess = (means["apart"] - means["floor"]) / (means["joint"] - means["floor"])
        yield f"{name}_excess_ratio", figure(excess.tolist(), "", "< 1", n, "(apart - floor) / (joint - floor)")
        gain = (part["joint"] - part["apart"]).to_numpy()
        draws = generator("bootstrap", name).integers(len(gain), size=(2000, len(gain)))
        low, high = map(float, np.quantile(gain[draws].mean(axis=1), [0.025, 0.975]))
        against = f"joint - apart, {of}; range: 95 % interval over combinations"
        yield f"{name}_gain", figure([gain.mean()], "", "> 0", n, against) | {"spread": [round(low, 4), round(high, 4)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=60_000, help="that each model is trained on")
    parser.add_argument("--n", type=int, default=100, help="images per distance")
    parser.add_argument("--out", type=Path, default=Path("runs/crossed"))
    parser.add_argument("--quick", action="store_true", help="tiny models of one seed, 4 images of 12 combinations")
    options = parser.parse_args()
    options.seeds, n = (options.seeds[:1], 4) if options.quick else (options.seeds, options.n)
    out, wanted = options.out, list(product(options.seeds, KINDS))
    asked = [(seed, kind, out / f"{kind}-{seed}", options.images, options.quick) for seed, kind in wanted]
    if options.quick:
        models = dict(zip(wanted, map(trained, *zip(*asked))))
    else:
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            models = dict(zip(wanted, pool.map(trained, *zip(*asked))))
    tables = []
    for seed in options.seeds:
        path = out / f"distances-{seed}.parquet"
        if not path.exists():
            of_seed = {kind: models[seed, kind] for kind in KINDS}
            write_table(path, measured(seed, of_seed, out, n, options.quick))
        tables.append(read_table(path))
        print(tables[-1].groupby("group", sort=False)[["floor", *KINDS]].mean().round(2), flush=True)
    crossed = training_set(options.seeds[0], options.quick)
    print("audit: ", *audit(crossed.table, crossed.schema).summary(), sep="\n  ")
    report("crossed", dict(figures(pd.concat(tables, ignore_index=True))), ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
