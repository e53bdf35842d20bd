"""Cohorts of phantom patches: the skewed one, fresh patches of any combination, the same tissue elsewhere."""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort.phantom.factors import (
    CLASSES,
    COMBINATIONS,
    DESIGN,
    FIELD,
    GROUP_GIVEN_SITE,
    GROUP_MISSING,
    GROUPS,
    SCANNERS,
    SITES,
    SIZES,
    STAINS,
    Section,
    Seeds,
    Stain,
    parameters_hash,
)
from medi.cohort.phantom.render import render
from medi.cohort.phantom.tissue import cut
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.processes import Pool
from medi.core.seeds import generator
from medi.core.shares import apportion
from medi.core.threads import cores
from medi.core.types import Images

TOGETHER = 256  # patches that one process draws at a time
WORTH_A_PROCESS = 2_000 * 32 * 32 * 3  # values of patches, which take two seconds


def schema() -> Schema:
    """Class, site and group with all their levels, those without patches included."""
    return Schema(
        Attribute("class", levels=CLASSES), (Attribute("site", levels=SITES), Attribute("group", levels=GROUPS))
    )


def cohort(seed: int = 0, size: int = 32, patches: int = 4000) -> Cohort:
    """The skewed cohort as collected: counts follow DESIGN whatever the seed, slides hold about 8 to 25 patches.

    seed: of tissue, staining and camera; size: pixels of a patch, one of SIZES, which show 32 micrometres.

    >>> import medi
    >>> print(medi.phantom(patches=100, seed=0))
    100 patches of 29 patients, 32 px; conditions: class (4), site (8), group (3)

    Raises MediError for another size, or fewer patches than filled combinations.
    """
    rows = []
    for (class_, site), count in _design_counts(patches).items():
        sizes = _slide_sizes(class_, site, count)
        rows += list(_rows("cohort", seed, class_, site, sizes))
    return _realise(rows, Seeds(seed, seed, seed), size, "cohort")


def fresh(
    combinations: Sequence[tuple[str, str]],
    per_combination: int,
    seed: int,
    stream: str,
    size: int = 32,
    patches_per_slide: int = 10,
) -> Cohort:
    """`per_combination` patches of each (class, site), from patients and slides that no other stream or seed shares.

    The first patches of a combination stay the same when more of them or more combinations are asked for.
    """
    if stream == "cohort":
        raise MediError("stream 'cohort' is the collected cohort's own; name another one")
    if per_combination < 1 or patches_per_slide < 1:
        raise MediError(
            f"patches per combination ({per_combination}) and per slide ({patches_per_slide}) must be 1 or more"
        )
    full, rest = divmod(per_combination, patches_per_slide)
    sizes = [patches_per_slide] * full + [rest] * (rest > 0)
    rows = []
    for class_, site in combinations:
        _check("class", class_, CLASSES)
        _check("site", site, SITES)
        rows += list(_rows(stream, seed, class_, site, sizes))
    return _realise(rows, Seeds(seed, seed, seed), size, stream)


def twins(
    source: Cohort, site: str, seeds: Seeds | None = None, clean: bool = False, stain: Stain | None = None
) -> tuple[Cohort, Bool[np.ndarray, "n h w"]]:
    """The same tissue of a phantom cohort as `site` would have shown it, and where its nuclei are [n, h, w].

    Each slide keeps its own deviation from its site's stain (a draw of the rendering seed), so at a patch's own site
    the twin is the patch itself, bit for bit. `clean` leaves out sensor noise and JPEG; `seeds` replaces the
    cohort's, `stain` the site's.
    """
    _check("site", site, SITES)
    if source.info.get("parameters") != parameters_hash():
        raise MediError("twins need a phantom cohort of this version, with its info; make it with cohort() or fresh()")
    chosen = seeds or _seeds_of(source)
    scanner = SCANNERS[site].clean() if clean else SCANNERS[site]
    rows = _records(source.table)
    sections = [_section_of(row, chosen, source.images.size) for row in rows]
    images = [
        render(section, stain or STAINS[site], scanner, row["slide"], row["sample_id"], chosen)
        for section, row in zip(sections, rows)
    ]
    moved = Cohort(source.table.assign(site=site), source.schema, Pixels.of(np.stack(images)), source.info)
    return moved, np.stack([section.nuclei for section in sections])


def _seeds_of(source: Cohort) -> Seeds:
    """The seeds that made a cohort; one joined from several seeds has none of its own."""
    seeds = Seeds(**source.info["seeds"])
    made = {patient.rsplit("-", 1)[0].rsplit(".", 1)[1] for patient in source.table["patient"]}
    if made - {str(seeds.tissue)}:
        raise MediError(
            f"this cohort was joined from several seeds ({', '.join(sorted(made))}); make twins of each alone"
        )
    return seeds


def _design_counts(patches: int) -> dict[tuple[str, str], int]:
    """DESIGN scaled to exactly this many patches, at least one in each filled combination (largest remainders)."""
    weights = np.array([DESIGN[site] for site in SITES], dtype=np.float64).ravel()  # in the order of COMBINATIONS
    filled = weights > 0
    if patches < filled.sum():
        raise MediError(f"{patches} patches are too few: the phantom fills {filled.sum()} combinations; ask for more")
    more = apportion(weights / weights.sum(), np.array([patches - filled.sum()]))[0]
    counts = filled + more
    return {combination: int(count) for combination, count in zip(COMBINATIONS, counts) if count}


def _slide_sizes(class_: str, site: str, count: int) -> list[int]:
    """How many patches each slide of a combination holds: 8 to 25, the last what is left; the same for every seed."""
    rng = generator("phantom", "slides", class_, site)
    sizes = []
    while count > 0:
        sizes.append(min(int(rng.integers(8, 26)), count))
        count -= sizes[-1]
    return sizes


def _rows(stream: str, seed: int, class_: str, site: str, sizes: list[int]) -> Iterator[dict[str, str]]:
    """Table rows of one combination; a patient has one to three slides, the ids name stream, seed and combination."""
    rng = generator("phantom", "patients", stream, seed, class_, site)
    number, left = 0, 0
    for size in sizes:
        if left == 0:
            number, left, slide = number + 1, int(rng.integers(1, 4)), 0
        left, slide = left - 1, slide + 1
        patient = f"{site}-{class_}-{stream}.{seed}-p{number:03d}"
        for index in range(size):
            name = f"{patient}-s{slide}"
            yield {"sample_id": f"{name}-{index:03d}", "class": class_, "patient": patient, "slide": name, "site": site}


def _realise(rows: list[dict[str, str]], seeds: Seeds, size: int, stream: str) -> Cohort:
    """Draw the patches of these rows and fill in the other columns."""
    if size not in SIZES:
        raise MediError(f"phantom patches are {', '.join(map(str, SIZES))} px, not {size}")
    if not rows:
        raise MediError("no combinations asked for: name at least one (class, site)")
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    alone = multiprocessing.parent_process() is not None  # the cores are shared out already
    workers = 1 if alone else max(min(cores(), images.size // WORTH_A_PROCESS), 1)
    parts = [(start, rows[start : start + TOGETHER], seeds, size) for start in range(0, len(rows), TOGETHER)]
    with Pool(workers, threads=1) as pool:
        for start, drawn in pool.map(_drawn, parts, in_shares=True):
            images[start : start + TOGETHER] = drawn
    groups = [_group(row["patient"], seeds.tissue)[1] for row in rows]
    info = {"source": "phantom", "stream": stream, "seeds": asdict(seeds), "parameters": parameters_hash()}
    return Cohort(_table(rows, groups, size), schema(), Pixels.of(images), info)


def _drawn(start: int, rows: list[dict[str, str]], seeds: Seeds, size: int) -> tuple[int, Images]:
    """The patches of these rows, and where the first one belongs."""
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for image, row in zip(images, rows):
        section, site = _section_of(row, seeds, size), row["site"]
        image[:] = render(section, STAINS[site], SCANNERS[site], row["slide"], row["sample_id"], seeds)
    return start, images


def _table(rows: list[dict[str, str]], groups: list[str], size: int) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    constant = {"image": "", "mpp": str(FIELD / size), "split": "", "origin": "real"}
    table = table.assign(**constant, noise_id=table["sample_id"], group=groups)
    order = ["sample_id", "image", "class", "patient", "slide", "mpp", "split", "origin", "noise_id", "site", "group"]
    return table[order].astype(str)


def _records(table: pd.DataFrame) -> list[dict[str, str]]:
    columns = ["sample_id", "class", "patient", "slide", "site"]
    return [dict(zip(columns, row)) for row in zip(*(table[column] for column in columns))]


@lru_cache(maxsize=1024)
def _group(patient: str, seed: int) -> tuple[str, str]:
    """A patient's true group, drawn from P(group | site), and what the table knows of it ("" where nothing)."""
    site = patient.split("-", 1)[0]
    rng = generator("phantom", "group", seed, patient)
    true = GROUPS[int(np.searchsorted(np.cumsum(GROUP_GIVEN_SITE[site])[:-1], rng.random(), side="right"))]
    return true, "" if rng.random() < GROUP_MISSING else true


def _section_of(row: dict[str, str], seeds: Seeds, size: int) -> Section:
    group = _group(row["patient"], seeds.tissue)[0]
    return cut(row["class"], group, row["slide"], row["sample_id"], seeds.tissue, size)


def _check(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise MediError(f"{kind} {name!r} is unknown; the phantom has {', '.join(known)}")
