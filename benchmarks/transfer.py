"""The same tissue at another site: transfer by MeDi against Reinhard and Macenko, where the truth can be rendered.

python benchmarks/transfer.py [--runs runs/study] [--seeds 0 1 2] [--per-combination 4] [--out runs/transfer] [--quick]

Takes the MeDi models of finished runs of `medi demo` (RUNS/seedN, as benchmarks/study.py leaves them). Fresh phantom
patches of every class and site are carried to all seven other sites and compared with the noise-free, JPEG-free render
of their tissue there. Stain normalisation learns each site from some of the patches that the model learned it
from, and from as many of all classes alike, which training does not have; both as it is mostly used (each patch by its
own statistics) and by the pooled statistics of its site. "common" is the change that the transfers of some training
patches of each site agree on (`medi transfer --common`). Two bounds stand beside it, each with knowledge that no model
has: "form", the same kind of change fitted to true twins of other patches, and "learner", a perfect renderer that must
only learn the sites' stains from the training slides, whose own effects it knows exactly but not what is class and
what is site. Then transferred training patches stand in for the synthetic ones of the run's plan, row by row, and so do
the same patches in the target's stain: an arm each of the utility study. The last line is JSON.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import figure, report
from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.files import read_table
from medi.evaluation.classify import utility
from medi.evaluation.classify.arms import Arm
from medi.evaluation.encoders import embed, embedded, encoder
from medi.models.checkpoint import load_model
from medi.sampling.common import Change, Pair, changes, spread
from medi.sampling.transfer import Bridge, TransferSettings, at_levels, filling, transfer
from medi.study.context import reopen

SOLVERS = ("dpm_solver_2m", "heun")
Images = np.ndarray
Colours = np.ndarray


@dataclass(frozen=True)
class Size:
    """How much is measured, and at which sites."""

    sites: tuple[str, ...] = phantom.SITES
    per_combination: int = 4  # fresh patches that are carried
    references: int = 96  # patches of a site, a quarter of each class
    common: int = 32  # training patches of a site
    probed: int = 60  # patches of a combination that the probes learn from
    twins: int = 4  # patches of a combination that `from_truth` learns from
    default: int = TransferSettings().steps
    steps: tuple[int, ...] = (5, 10, 15, 30)
    timed: int = 5  # single patches

    @property
    def combinations(self) -> list[tuple[str, str]]:
        return [pair for pair in phantom.COMBINATIONS if pair[1] in self.sites]


QUICK = Size(phantom.SITES[::4], 1, 8, 8, 4, 2, 2, (2,), 1)


def psnr(a: Images, b: Images) -> np.ndarray:
    """Peak signal to noise ratio of each pair, dB."""
    error = ((a.astype(np.float64) - b) ** 2).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-9))


# --- stain normalisation ----------------------------------------------------------------------------------------------

LAB = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
OPPONENT = np.diag([1 / 3**0.5, 1 / 6**0.5, 1 / 2**0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


def to_lab(pixels: Colours) -> Colours:
    """RGB [k, 3] to the decorrelated l-alpha-beta space of Reinhard et al. (IEEE CG&A 2001)."""
    return np.log(np.maximum(pixels, 1.0) / 255 @ LAB.T) @ OPPONENT.T


def from_lab(lab: Colours) -> Colours:
    return 255 * np.exp(lab @ np.linalg.inv(OPPONENT).T) @ np.linalg.inv(LAB).T


def moments(pixels: Colours) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of l, alpha, beta."""
    lab = to_lab(pixels)
    return lab.mean(axis=0), lab.std(axis=0) + 1e-6


def reinhard(pixels: Colours, source: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray]) -> Colours:
    """The source's moments become the target's."""
    return from_lab((to_lab(pixels) - source[0]) / source[1] * target[1] + target[0])


def stains(pixels: Colours) -> tuple[np.ndarray, np.ndarray]:
    """Haematoxylin and eosin vectors [2, 3] and their 99th percentiles (Macenko et al., ISBI 2009; beta 0.15)."""
    density = -np.log((pixels + 1) / 241)
    dense = density[(density > 0.15).all(axis=1)]
    dense = dense if len(dense) > 10 else density
    plane = np.linalg.svd(np.cov(dense.T))[0][:, :2]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    angles = np.arctan2(*(dense @ plane).T[::-1])
    ends = [plane @ np.array([np.cos(a), np.sin(a)]) for a in np.percentile(angles, [1, 99])]
    vectors = np.array(sorted(ends, key=lambda v: -v[0]))
    amounts = np.linalg.lstsq(vectors.T, density.T, rcond=None)[0]
    return vectors, np.maximum(np.percentile(amounts, 99, axis=1), 1e-3)


def macenko(pixels: Colours, source: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray]) -> Colours:
    """The source's stain amounts, scaled, in the target's stain vectors."""
    amounts = np.linalg.lstsq(source[0].T, -np.log((pixels + 1) / 241).T, rcond=None)[0]
    return 241 * np.exp(-(target[0].T @ (amounts * (target[1] / source[1])[:, None]))).T - 1


KINDS = {"reinhard": (moments, reinhard), "macenko": (stains, macenko)}
METHODS = [f"{kind}{suffix}" for kind in KINDS for suffix in ("", "_pooled")]


def normalised(name: str, images: Images, source: Images, target: Images) -> Images:
    """Patches in the target's stain; "_pooled": the source's statistics are those of its site's references."""
    kind, _, pooled = name.partition("_")
    look, change = KINDS[kind]
    pixels = images.reshape(len(images), -1, 3).astype(float)
    goal = look(target.reshape(-1, 3).astype(float))
    home = look(source.reshape(-1, 3).astype(float)) if pooled else None
    made = [change(patch, home or look(patch), goal) for patch in pixels]
    return np.clip(np.rint(np.array(made)), 0, 255).astype(np.uint8).reshape(images.shape)


# --- bounds -----------------------------------------------------------------------------------------------------------


def from_truth(seed: int, size: Size) -> dict[Pair, Change]:
    """The change of each pair of sites that fits the true twins of other patches best."""
    others = phantom.fresh(size.combinations, size.twins, seed, "changes of twins", patches_per_slide=2)
    twins = {site: phantom.twins(others, site)[0].images[:] for site in size.sites}
    found = {}
    for home in size.sites:
        at = np.flatnonzero(others.table["site"] == home)
        found |= {(home, t): Change.fit(others.images[at], twins[t][at]) for t in size.sites if t != home}
    return found


def learned_stains(train: Cohort, seed: int, size: Size) -> dict[str, np.ndarray]:
    """What a site's stain vectors [2, 3] seem to be, as factors of the true ones.

    Of each training slide the logarithms of its haematoxylin and eosin vectors are known without error; they are an
    effect of the class plus one of the site plus the slide's own (its stain, and for eosin how eosinophilic its tissue
    is). Least squares over slides is the best linear unbiased estimate of such effects (Gauss and Markov).
    """
    slides = train.table.drop_duplicates("slide")
    seen = []
    for class_, slide in zip(slides["class"], slides["slide"]):
        tissue = phantom.TISSUES[class_]
        eosin = phantom.slide_tissue(tissue, slide, seed).eosin / tissue.eosin
        seen.append(np.log(phantom.stain_of(slide, seed).vectors * [[1.0], [eosin]]).ravel())
    design = pd.get_dummies(slides[["class", "site"]], dtype=float)
    effects = np.linalg.lstsq(design.to_numpy(), np.array(seen), rcond=None)[0]
    return {site: np.exp(effects[design.columns.get_loc(f"site_{site}")]).reshape(2, 3) for site in size.sites}


def by_learned_stains(source: Cohort, home: str, target: str, found: dict[str, np.ndarray]) -> Images:
    """Patches of one site rendered without error at another, but for what is wrong about both sites' stains."""
    stain, factors = phantom.STAINS[target], found[target] / found[home]
    vectors = np.array([stain.haematoxylin, stain.eosin]) * factors
    seeming = replace(stain, haematoxylin=tuple(vectors[0]), eosin=tuple(vectors[1]))
    return phantom.twins(source, target, clean=True, stain=seeming)[0].images[:]


# --- what is compared -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Patches [n] of one seed; clean truth and two noisy renders at every site; references for stain normalisation, of
    training ("") and of all classes alike ("_crossed"); two probes; what the bounds need."""

    seed: int
    size: Size
    source: Cohort
    truth: dict[str, Images]
    noisy: dict[str, tuple[Images, Images]]
    references: dict[str, dict[str, Images]]
    probes: dict[str, Any]
    form: dict[Pair, Change]
    stains: dict[str, np.ndarray]

    @classmethod
    def of(cls, seed: int, size: Size, train: Cohort) -> "World":
        source = phantom.fresh(size.combinations, size.per_combination, seed, "transfer", patches_per_slide=2)
        sensors = [phantom.Seeds(seed, seed, seed + 1000 * i) for i in (1, 2)]
        truth = {site: phantom.twins(source, site, clean=True)[0].images[:] for site in size.sites}
        noisy = {site: tuple(phantom.twins(source, site, s)[0].images[:] for s in sensors) for site in size.sites}
        crossed = phantom.fresh(size.combinations, size.references // 4, seed, "stain references")
        references = {"": sites_of(train, seed, size), "_crossed": sites_of(crossed, seed, size)}
        probes = {column: probe(seed, column, size) for column in ("class", "site")}
        bounds = from_truth(seed, size), learned_stains(train, seed, size)
        return cls(seed, size, source, truth, noisy, references, probes, *bounds)


def training(folder: Path, size: Size) -> Cohort:
    """The patches that the run's models have learned from."""
    found = reopen(str(folder)).split().where(split="train")
    return found.select(found.table["site"].isin(size.sites).to_numpy())


def sites_of(cohort: Cohort, seed: int, size: Size) -> dict[str, Images]:
    """Patches of each site, at random."""
    order = seeds.generator("stain references", seed).permutation(len(cohort))
    site = cohort.table["site"].to_numpy()[order]
    return {name: cohort.images[order[site == name][: size.references]] for name in size.sites}


def probe(seed: int, column: str, size: Size) -> Any:
    """A linear probe of class or site on a crossed phantom."""
    train = phantom.fresh(size.combinations, size.probed, seed, f"probe {size.probed}")
    made = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return made.fit(embed(train, encoder("colour-texture")), train.table[column])


def nuclei(images: Images, cut: float) -> np.ndarray:
    """Where the grey optical density is above a cut."""
    return -np.log((images.astype(float) + 1) / 256).mean(axis=-1) > cut


def best_cut(clean: Images, masks: np.ndarray) -> float:
    """The cut whose masks agree best with the true nuclei of clean renders."""
    cuts = np.linspace(0.2, 1.2, 51)
    return float(cuts[np.argmax([dice(nuclei(clean, cut), masks).mean() for cut in cuts])])


def dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap 2 |a and b| / (|a| + |b|) of each pair of masks, for pairs with something in one of them."""
    both, either = (a & b).sum(axis=(1, 2)), a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
    return 2 * both[either > 0] / either[either > 0]


def measure(
    world: World, bridge: Bridge, common: dict[Pair, Change], unseen: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A row of means per pair of sites and arm."""
    table, images = world.source.table, world.source.images[:]
    noise = bridge.invert(images, table)
    extractor = encoder("colour-texture")
    right = world.probes["class"].predict(extractor.encode(images)) == table["class"]
    masks = phantom.twins(world.source, world.size.sites[0])[1]
    rows = []
    for target in world.size.sites:
        cut = best_cut(world.truth[target], masks)
        for site in [s for s in world.size.sites if s != target]:
            at = np.flatnonzero(table["site"] == site)
            clean, (noisy, other) = world.truth[target][at], (world.noisy[target][i][at] for i in (0, 1))
            arms = {"medi": bridge.render(noise[at], table.iloc[at].assign(site=target)), "untouched": images[at]}
            arms |= {"truth": noisy, "common": common[site, target](images[at])}
            arms |= {"form": world.form[site, target](images[at])}
            arms |= {"learner": by_learned_stains(world.source.select(at), site, target, world.stains)}
            for kind, references in world.references.items():
                for name in METHODS:
                    arms[name + kind] = normalised(name, images[at], references[site], references[target])
            fresh = np.array([(c, target) in unseen for c in table["class"].iloc[at]])
            for arm, made in arms.items():
                features, seen = extractor.encode(made), {"site": site, "target": target, "arm": arm}
                score = psnr(made, clean)
                kept = (world.probes["class"].predict(features) == table["class"].iloc[at])[right[at]]
                found = {
                    "psnr": score.mean(),
                    "psnr_seen": score[~fresh].mean() if (~fresh).any() else np.nan,
                    "psnr_unseen": score[fresh].mean() if fresh.any() else np.nan,
                    "psnr_noisy": psnr(made, other).mean(),
                    "dice": dice(nuclei(made, cut), nuclei(clean, cut)).mean(),
                    "site_recognised": (world.probes["site"].predict(features) == target).mean(),
                    "class_kept": kept.mean(),
                }
                rows.append(seen | found)
    return rows


def back(world: World, bridge: Bridge) -> float:
    """PSNR of inversion without a change, dB; pixels that differ by nothing count as half a grey level at most."""
    images, table = world.source.images[:], world.source.table
    return float(psnr(bridge.render(bridge.invert(images, table), table), images).mean())


def curve(world: World, bridge: Bridge, solver: str) -> dict[int, dict[str, float]]:
    """Steps against quality on one target per patch, and seconds for a single patch."""
    table, images = world.source.table, world.source.images[:]
    sites = list(world.size.sites)
    further = len(sites) - 1
    target = np.array([sites[(sites.index(s) + 1 + i % further) % len(sites)] for i, s in enumerate(table["site"])])
    clean = np.stack([world.truth[site][i] for i, site in enumerate(target)])
    found = {}
    for steps in world.size.steps:
        one = Bridge(bridge.denoiser, bridge.checkpoint, replace(bridge.settings, steps=steps, solver=solver))
        noise = one.invert(images, table)
        made, same = one.render(noise, table.assign(site=target)), one.render(noise, table)
        alone = Bridge(one.denoiser, one.checkpoint, replace(one.settings, batch=1))
        start = time.perf_counter()
        for i in range(world.size.timed):
            alone.render(alone.invert(images[[i]], table.iloc[[i]]), table.iloc[[i]].assign(site=target[i]))
        seconds = (time.perf_counter() - start) / world.size.timed
        found[steps] = {"psnr": psnr(made, clean).mean(), "back": psnr(same, images).mean(), "seconds": seconds}
        print(solver, steps, {key: round(float(value), 3) for key, value in found[steps].items()}, flush=True)
    return found


# --- an arm of the utility study --------------------------------------------------------------------------------------


def learned(
    folder: Path, train: Cohort, seed: int, out: Path, settings: TransferSettings, size: Size
) -> dict[Pair, Change]:
    """The common change of every pair of sites."""
    drawn = spread(train, "site", size.common, seed)
    rows = at_levels(drawn, train.schema, "site", size.sites)
    start = time.perf_counter()
    singles = transfer(folder / "models" / "medi" / "model.safetensors", drawn, rows, out / "singles", settings)
    assert singles is not None
    print(f"seed {seed}: {len(singles)} transfers to learn from, {time.perf_counter() - start:.0f} s", flush=True)
    return changes(drawn, singles, "site")


def arms(
    folder: Path, seed: int, out: Path, settings: TransferSettings, common: dict[Pair, Change], size: Size
) -> pd.DataFrame:
    """Balanced accuracy of the probe on the run's tests, where other patches take the place of the synthetic ones."""
    train = training(folder, size)
    known = set(zip(train.table["class"], train.table["site"]))
    plan = read_table(folder / "plan" / "rows.parquet")
    plan = plan[plan["fill"].to_numpy(dtype=bool) & plan["site"].isin(size.sites)]
    rows = filling(train, train.schema, "site", plan, seed)
    start = time.perf_counter()
    made = transfer(folder / "models" / "medi" / "model.safetensors", train, rows, out / "filling", settings)
    assert made is not None
    print(f"seed {seed}: {len(made)} patches transferred, {time.perf_counter() - start:.0f} s", flush=True)
    extractor = encoder("colour-texture")
    reference = Cohort.load(folder / "references" / "reference")
    reference = reference.select(reference.table["site"].isin(size.sites).to_numpy())
    seen = np.array([pair in known for pair in zip(reference.table["class"], reference.table["site"])])
    rows = embedded(reference, extractor)
    tests = {name: rows.take(at) for name, at in (("seen", seen), ("unseen", ~seen))}
    added = {
        "medi": Cohort.load(folder / "samples" / "medi").where(sample_id=plan["sample_id"].tolist()),
        "translated": made,
    }
    added["transfer_common"] = carried(train, made, lambda patches, *pair: common[pair](patches))
    references = sites_of(train, seed, size)
    for name in METHODS:
        added[name] = carried(
            train, made, lambda x, home, target, name=name: normalised(name, x, references[home], references[target])
        )
    added["oracle"] = oracle(folder, plan)
    real = embedded(train, extractor)
    found = [Arm("real", real)]
    found += [Arm(name, real.join(embedded(more, extractor))) for name, more in added.items()]
    return utility.evaluate(found, tests, seed=seed)


def carried(train: Cohort, made: Cohort, change: Callable[[Images, str, str], Images]) -> Cohort:
    """The sources of transferred patches, changed otherwise from their site to the target."""
    sources = pd.Index(train.table["sample_id"]).get_indexer(made.table["source"])
    images = train.images[sources]
    for (home, target), rows in made.table.groupby(["translated_from", "site"]):
        images[rows.index] = change(images[rows.index], home, target)
    return Cohort(made.table, made.schema, Pixels.of(images))


def oracle(folder: Path, plan: pd.DataFrame) -> Cohort:
    """As many fresh real patches of every combination as the plan fills it with."""
    pool = Cohort.load(folder / "references" / "oracle")
    number = pool.table.groupby(["class", "site"]).cumcount()
    wanted = plan.groupby(["class", "site"]).size()
    combinations = pd.MultiIndex.from_frame(pool.table[["class", "site"]])
    return pool.select((number < wanted.reindex(combinations).fillna(0).to_numpy()).to_numpy())


def run(folder: Path, seed: int, size: Size, out: Path) -> dict[str, Any]:
    """Everything for one seed's model."""
    denoiser, checkpoint = load_model(folder / "models" / "medi" / "model.safetensors")
    bridge = Bridge(denoiser, checkpoint, TransferSettings(steps=size.default))
    trained = {tuple(row[:2]) for row in (checkpoint.combinations or {})["rows"]}
    train, out = training(folder, size), out / f"seed{seed}"
    world = World.of(seed, size, train)
    common = learned(folder, train, seed, out, bridge.settings, size)
    start = time.perf_counter()
    rows = pd.DataFrame(measure(world, bridge, common, set(size.combinations) - trained))
    print(rows.groupby("arm").mean(numeric_only=True).round(3).to_string(), flush=True)
    print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    few = np.arange(0, len(world.source), 4)
    truth = {site: images[few] for site, images in world.truth.items()}
    small = replace(world, source=world.source.select(few), truth=truth)
    curves = {solver: curve(small, bridge, solver) for solver in SOLVERS}
    made = {"rows": rows, "back": back(world, bridge), "curves": curves}
    return made | {"utility": arms(folder, seed, out, bridge.settings, common, size)}


def figures(runs: list[dict[str, Any]], size: Size) -> dict[str, dict[str, Any]]:
    n, means = len(runs), [run["rows"].groupby("arm").mean(numeric_only=True) for run in runs]

    def over(column: str, arm: str) -> list[float]:
        return [float(mean.loc[arm, column]) for mean in means]

    def made(values: list[float], unit: str, target: str | None, against: str) -> dict[str, Any]:
        return figure(values, unit, target, n, against)

    def gain(arm: str, kind: str) -> list[float]:
        return [float(m.loc[arm, "psnr"] - m.loc[[name + kind for name in METHODS], "psnr"].max()) for m in means]

    def short(arm: str) -> list[float]:
        return [float(m.loc["truth", "psnr_noisy"] - m.loc[arm, "psnr_noisy"]) for m in means]

    clean = "noise-free, JPEG-free render at the target; all pairs of sites"
    found = {
        "psnr_untouched": made(over("psnr", "untouched"), "dB", None, clean),
        "nuclei_overlap_truth": made(over("dice", "truth"), "Dice", None, "a noisy render of the truth"),
        "site_recognised_truth": made(over("site_recognised", "truth"), "", None, "a noisy render of the truth"),
        "class_kept_truth": made(over("class_kept", "truth"), "", None, "a noisy render of the truth"),
        "back": made([run["back"] for run in runs], "dB", ">= 45", "inversion without a change"),
        "seconds": made(
            [run["curves"][SOLVERS[0]][size.default]["seconds"] for run in runs],
            "s",
            "<= 1",
            "one patch of 32 px, default steps",
        ),
    }
    for arm in ("medi", "common"):
        found |= {
            f"{arm}_psnr": made(over("psnr", arm), "dB", None, clean),
            f"{arm}_psnr_seen": made(over("psnr_seen", arm), "dB", None, "class trained at the target"),
            f"{arm}_psnr_unseen": made(over("psnr_unseen", arm), "dB", None, "class never trained at the target"),
            f"{arm}_gain": made(gain(arm, ""), "dB", ">= 3", "best of Reinhard and Macenko, references of training"),
            f"{arm}_gain_crossed": made(gain(arm, "_crossed"), "dB", None, "the same, references of all classes alike"),
            f"{arm}_below_ceiling": made(short(arm), "dB", "<= 3", "a second noisy render, same tissue and site"),
            f"{arm}_nuclei_overlap": made(over("dice", arm), "Dice", ">= 0.9", "masks of the clean render, same cut"),
            f"{arm}_site_recognised": made(over("site_recognised", arm), "", ">= 0.97", "probe, crossed phantom"),
            f"{arm}_class_kept": made(over("class_kept", arm), "", ">= 0.97", "of patches that the probe got right"),
        }
    for arm, bound in (("form", "the same change, of true twins"), ("learner", "perfect but for what slides tell")):
        found[f"{arm}_psnr"] = made(over("psnr", arm), "dB", None, f"{clean}; bound: {bound}")
        found[f"{arm}_below_ceiling"] = made(short(arm), "dB", None, f"bound: {bound}")
        found[f"{arm}_class_kept"] = made(over("class_kept", arm), "", None, f"bound: {bound}")
    for name in METHODS:
        for kind in ("", "_crossed"):
            found[f"psnr_{name}{kind}"] = made(over("psnr", name + kind), "dB", None, clean)
    for split in ("seen", "unseen"):
        for arm in ("real", "medi", "translated", "transfer_common", *METHODS, "oracle"):
            values = [accuracy(run["utility"], split, arm) for run in runs]
            against = f"{split} combinations; the plan's count of patches in each arm but real"
            found[f"balanced_accuracy_{split}_{arm}"] = made(values, "", None, against)
    for solver in SOLVERS:
        for steps in size.steps:
            for key, unit in (("psnr", "dB"), ("back", "dB"), ("seconds", "s")):
                values = [float(run["curves"][solver][steps][key]) for run in runs if steps in run["curves"][solver]]
                found[f"{solver}_{steps}_{key}"] = made(values, unit, None, "steps against quality")
    return found


def accuracy(table: pd.DataFrame, split: str, arm: str) -> float:
    rows = table[(table["metric"] == "balanced_accuracy") & (table["scope"] == "all") & (table["split"] == split)]
    return float(rows.set_index("arm").loc[arm, "value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-combination", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="transferred training patches")
    parser.add_argument("--quick", action="store_true", help="two sites, a patch per combination, 2 steps")
    options = parser.parse_args()
    seeds, size = options.seeds, Size(per_combination=options.per_combination)
    if options.quick:
        seeds, size = seeds[:1], QUICK
    runs = [run(options.runs / f"seed{seed}", seed, size, options.out) for seed in seeds]
    report("transfer", figures(runs, size), ("torch", "diffusers", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
