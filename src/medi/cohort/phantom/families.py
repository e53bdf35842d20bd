"""Endless procedural tissue: random tissues, stains and scanners from wide families, none of them the phantom's own.

A model that begins with weights learned here has seen nuclei, glands and fibres, but no class and no site of the
phantom. Every tissue differs from every phantom class in its arrangement, or by a fifth in three factors or more. Every
stain vector stands at least eight degrees away from those of every phantom site.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi.cohort.phantom.factors import CLOUD, CRACKS, FIELD, STAINS, TISSUES, Scanner, Section, Seeds, Stain, Tissue
from medi.cohort.phantom.render import render
from medi.cohort.phantom.tissue import ARRANGEMENTS as PHANTOM_ARRANGEMENTS
from medi.cohort.phantom.tissue import Frame, Layout, field_frame, jittered, noise, noises, nuclei_maps, slide_tissue
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.files import content_hash
from medi.core.seeds import generator

VERSION = 1  # of the families: raise it when the same seed gives other tissues
APART, FACTORS = 0.2, 3  # a tissue is new if this many factors differ by this share from a class of its arrangement
DEGREES = 8.0  # between a stain vector and those of the phantom's sites
RANGES = {  # of a tissue's factors, drawn evenly in the logarithm; spacing is in radii
    "radius": (2.2, 6.0),
    "spacing": (1.75, 3.3),
    "elongation": (1.02, 3.6),
    "chromatin": (0.10, 0.60),
    "clearing": (0.08, 0.60),
    "nuclear": (0.80, 1.45),
    "basophilia": (0.05, 0.35),
    "eosin": (0.35, 0.95),
    "fibre": (0.06, 0.55),
    "lumen": (0.40, 1.00),
    "disorder": (0.05, 0.28),
}
HAEMATOXYLIN, EOSIN = (0.62, 0.70, 0.35), (0.15, 0.88, 0.42)  # middle directions of optical density
SPREAD = 0.22  # standard deviation of a direction's components around them
STRENGTH = {"haematoxylin": (0.9, 2.0), "eosin": (0.45, 1.3)}  # lengths of the vectors
LYMPHOCYTES = (0.0, 2.0)  # mean count in a field


def _nested(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Islands of nuclei with pale stroma between them."""
    angle, reach = rng.uniform(0.0, math.pi), rng.uniform(6.0, 11.0)
    islands = jittered(rng, 2.5 * reach, 2.3 * reach, 0.12, angle)
    centres = jittered(rng, tissue.spacing, 0.87 * tissue.spacing, tissue.disorder, angle)
    distance = np.linalg.norm(centres[:, None] - islands, axis=-1).min(axis=1)
    centres = centres[distance < reach * (1 + tissue.disorder * rng.standard_normal(len(centres)))]
    field = np.stack(frame, axis=-1)[:, :, None]
    outside = np.linalg.norm(field - islands, axis=-1).min(axis=2) - reach
    gap = (outside - 1.0 + 1.5 * noise(rng, len(frame[0]), 4.0)) / 4.0
    return centres, rng.uniform(0.0, math.pi, len(centres)), gap, angle


def _whorled(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Nuclei that turn around a point, as in a whorl."""
    angle, middle = rng.uniform(0.0, math.pi), rng.uniform(-FIELD / 2, FIELD / 2, 2)
    centres = jittered(rng, 1.1 * tissue.spacing, 0.85 * tissue.spacing, tissue.disorder, angle)
    around = centres - middle
    angles = np.arctan2(around[:, 0], around[:, 1]) + math.pi / 2
    angles = angles + 1.5 * tissue.disorder * rng.standard_normal(len(centres))
    gap = 1.5 * (noise(rng, len(frame[0]), 2.5) - 1.7)
    return centres, angles, gap, float(rng.uniform(0.0, math.pi))


def _filed(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Single files of nuclei in fibrous stroma, all along one direction."""
    angle = rng.uniform(0.0, math.pi)
    along, across = max(0.9 * tissue.spacing, 2.1 * tissue.radius), rng.uniform(1.5, 2.6) * tissue.spacing
    centres = jittered(rng, along, across, 0.6 * tissue.disorder, angle)
    gap = 1.5 * (noise(rng, len(frame[0]), 1.8, angle, 4.0) - 1.6)
    return centres, angle + tissue.disorder * rng.standard_normal(len(centres)), gap, angle


ARRANGEMENTS: dict[str, Callable[[np.random.Generator, Tissue, Frame], Layout]] = {
    **PHANTOM_ARRANGEMENTS,
    "nested": _nested,
    "whorled": _whorled,
    "filed": _filed,
}


@lru_cache(maxsize=4096)
def random_tissue(*key: str | int) -> Tissue:
    """The tissue that a key draws; drawn again until it is none of the phantom's."""
    rng = generator("families", "tissue", *key)
    while True:
        factors = {name: float(np.exp(rng.uniform(*np.log(ends)))) for name, ends in RANGES.items()}
        factors["spacing"] *= factors["radius"] * math.sqrt(max(factors["elongation"], 1.0)) ** 0.5
        arrangement: Any = list(ARRANGEMENTS)[int(rng.integers(len(ARRANGEMENTS)))]
        found = Tissue(arrangement=arrangement, **factors)
        if is_new_tissue(found):
            return found


def is_new_tissue(tissue: Tissue) -> bool:
    """Whether a tissue differs from every phantom class: in arrangement, or by APART in FACTORS factors or more."""
    names = [field.name for field in fields(Tissue) if field.name != "arrangement"]
    for known in TISSUES.values():
        apart = sum(abs(getattr(tissue, name) / getattr(known, name) - 1) >= APART for name in names)
        if tissue.arrangement == known.arrangement and apart < FACTORS:
            return False
    return True


@lru_cache(maxsize=4096)
def random_stain(*key: str | int) -> Stain:
    """The stain that a key draws; each vector is drawn again until it stands apart from every phantom site's."""
    rng = generator("families", "stain", *key)
    vectors = {}
    for name, middle in (("haematoxylin", HAEMATOXYLIN), ("eosin", EOSIN)):
        known = [getattr(stain, name) for stain in STAINS.values()]
        vectors[name] = _apart(rng, middle, STRENGTH[name], known)
    background = 0.95 + 0.025 * rng.standard_normal() + 0.012 * rng.standard_normal(3)
    return Stain(**vectors, background=tuple(np.clip(background, 0.85, 1.0).tolist()))


def _apart(
    rng: np.random.Generator,
    middle: tuple[float, float, float],
    strength: tuple[float, float],
    known: Sequence[tuple[float, float, float]],
) -> tuple[float, float, float]:
    while True:
        direction = np.clip(np.array(middle) + SPREAD * rng.standard_normal(3), 0.02, None)
        direction /= np.linalg.norm(direction)
        if min(degrees(direction, other) for other in known) >= DEGREES:
            found = direction * rng.uniform(*strength)
            return float(found[0]), float(found[1]), float(found[2])


def degrees(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """The angle between two stain vectors."""
    cosine = np.dot(first, second) / np.linalg.norm(first) / np.linalg.norm(second)
    return math.degrees(math.acos(min(float(cosine), 1.0)))


@lru_cache(maxsize=4096)
def random_scanner(*key: str | int) -> Scanner:
    """The optics and camera that a key draws."""
    rng = generator("families", "scanner", *key)
    gain = tuple((1 + 0.02 * rng.standard_normal(3)).tolist())
    return Scanner(float(rng.uniform(0.7, 1.8)), gain, float(rng.uniform(0.8, 3.0)), int(rng.integers(72, 97)))


def section_of(tissue: Tissue, lymphocytes: float, slide: str, sample: str, seed: int, size: int) -> Section:
    """`phantom.cut` for a tissue of these families; [size, size] maps."""
    tissue = slide_tissue(tissue, slide, seed)
    rng = generator("families", "section", seed, sample)
    centres, angles, gap, direction = ARRANGEMENTS[tissue.arrangement](rng, tissue, field_frame(size))
    density, cover = nuclei_maps(rng, tissue, centres, angles, lymphocytes, size)
    cloud, fibre, grain = noises(rng, size, (4.0, 0.0, 1.0), (1.5, direction, 5.0), (1.5, 0.0, 1.0))
    chromatin = 1.0 + tissue.chromatin * grain
    cracks = 2.0 * (-cloud - CRACKS)
    white = tissue.lumen * np.clip(np.maximum(gap, cracks), 0.0, 1.0) * (1.0 - cover)
    cytoplasm = np.maximum(1.0 + CLOUD * cloud + tissue.fibre * fibre, 0.1) * (1.0 - white)
    haematoxylin = density * chromatin + tissue.basophilia * cytoplasm * (1.0 - cover)
    return Section(np.maximum(haematoxylin, 0.0), tissue.eosin * cytoplasm * (1.0 - 0.5 * cover), cover > 0.5)


def patch(seed: int, tissue: int, site: int, slide: str, sample: str, size: int) -> UInt8[np.ndarray, "h w 3"]:
    """One patch of tissue number `tissue`, stained and scanned at site number `site`."""
    lymphocytes = float(generator("families", "lymphocytes", seed, slide).uniform(*LYMPHOCYTES))
    section = section_of(random_tissue(seed, tissue), lymphocytes, slide, sample, seed, size)
    stain, scanner = random_stain(seed, site), random_scanner(seed, site)
    return render(section, stain, scanner, slide, sample, Seeds(seed, seed, seed))


def cohort(seed: int, patches: int, tissues: int = 512, sites: int = 512, size: int = 32) -> Cohort:
    """Patches of random tissues at random sites, each combination by chance: class and site say nothing of each other.

    `patches` of `size` px; a slide holds eight patches of one tissue at one site. Raises what `phantom.cohort` raises.
    """
    pairs = generator("families", "pairs", seed).integers((tissues, sites), size=(-(-patches // 8), 2))
    images = np.empty((patches, size, size, 3), dtype=np.uint8)
    rows = []
    for i, image in enumerate(images):
        tissue, site = pairs[i // 8].tolist()
        slide = f"families.{seed}-{i // 8:07d}"
        image[:] = patch(seed, tissue, site, slide, f"{slide}-{i % 8}", size)
        rows.append((f"{slide}-{i % 8}", f"t{tissue:03d}", slide, f"s{site:03d}"))
    table = pd.DataFrame(rows, columns=["sample_id", "class", "slide", "site"])
    table = table.assign(patient=table["slide"], image="", mpp=str(FIELD / size), split="train", origin="real")
    levels = tuple(f"t{i:03d}" for i in range(tissues)), tuple(f"s{i:03d}" for i in range(sites))
    schema = Schema(Attribute("class", levels=levels[0]), (Attribute("site", levels=levels[1]),))
    info = {"source": "families", "seed": seed, "version": VERSION, "parameters": content_hash(VERSION, RANGES)}
    return Cohort(table.assign(noise_id=table["sample_id"]), schema, Pixels.of(images), info)


def described(made: Cohort, seed: int) -> Cohort:
    """The patches of `cohort`, of the same seed, under what they were drawn by instead of by names.

    The class is the arrangement of the nuclei. Attributes are numbers: the logarithm of every other factor of the
    tissue, the six components of the stain vectors, and the scanner's blur in micrometres, each with its mean and
    standard deviation as centre and scale.
    """
    numbers = made.table[["class", "site"]].apply(lambda column: column.str[1:].astype(int))
    tissues = [random_tissue(seed, tissue) for tissue in numbers["class"]]
    columns = {name: [math.log(getattr(tissue, name)) for tissue in tissues] for name in RANGES}
    stains = [random_stain(seed, site) for site in numbers["site"]]
    for name in STRENGTH:
        columns |= {f"{name} {band}": [getattr(stain, name)[i] for stain in stains] for i, band in enumerate("rgb")}
    columns["blur"] = [random_scanner(seed, site).blur for site in numbers["site"]]
    factors = pd.DataFrame(columns)
    attributes = tuple(
        Attribute(str(name), "continuous", center=float(values.mean()), scale=float(values.std(ddof=0)) or 1.0)
        for name, values in factors.items()
    )
    arrangement = [tissue.arrangement for tissue in tissues]
    table = made.table.drop(columns="site").assign(**{"class": arrangement}, **factors.astype(str))
    schema = Schema(Attribute("class", levels=tuple(ARRANGEMENTS)), attributes)
    return Cohort(table, schema, made.pixels, made.info)
