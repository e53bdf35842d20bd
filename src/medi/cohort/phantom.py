"""The phantom cohort: procedural H&E patches whose class (tissue) and site (stain, scanner) are known factors.

Tissue is a pair of concentration maps; a site renders it by Beer-Lambert, I = I0 exp(-(h v_h + e v_e)), then blurs,
adds noise and compresses. Every patch follows from keys alone (P3): the same tissue can be rendered at every site.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, UInt8
from PIL import Image

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.seeds import generator

VERSION = 1  # of the rendering code: raise it when the same parameters give other pixels (numbers inside functions)
FIELD = 32.0  # micrometres across a patch, whatever its size in pixels
MARGIN = 8.0  # micrometres around the field where nuclei may be centred, so that the border cuts some

Map = Float64[np.ndarray, "h w"]
Points = Float64[np.ndarray, "k 2"]
Angles = Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class Tissue:
    """What a class looks like before staining; lengths in micrometres, concentrations relative to the stain's."""

    arrangement: Literal["scattered", "palisaded", "ring", "fascicle"]
    radius: float  # geometric mean of a nucleus's semi-axes
    spacing: float  # between neighbouring nuclei
    elongation: float  # long over short axis
    chromatin: float  # relative amplitude of the texture inside a nucleus
    clearing: float  # how much paler a nucleus is inside than at its rim
    nuclear: float  # haematoxylin of a nucleus
    basophilia: float  # haematoxylin of the cytoplasm
    eosin: float  # of cytoplasm and stroma
    fibre: float  # relative amplitude of fibres
    lumen: float  # how white gaps and lumina are, 0 to 1
    disorder: float  # how far nuclei stray from their places, share of the spacing


@dataclass(frozen=True)
class Stain:
    """A laboratory's H&E: optical density (natural logarithm) of R, G, B at concentration 1, and the white of glass."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    background: tuple[float, float, float]  # in 0 .. 1


@dataclass(frozen=True)
class Scanner:
    """Optics and camera: blur (standard deviation, micrometres), colour gain, noise (grey levels), JPEG quality."""

    blur: float
    gain: tuple[float, float, float]
    noise: float
    jpeg: int | None  # None: not compressed

    def clean(self) -> "Scanner":
        """The same optics without sensor noise and JPEG."""
        return replace(self, noise=0.0, jpeg=None)


@dataclass(frozen=True)
class Seeds:
    """Tissue (what is on the glass), rendering (how the slide was stained), sensor (noise of the camera)."""

    tissue: int
    rendering: int
    sensor: int


@dataclass(frozen=True)
class Section:
    """A patch of tissue before staining: haematoxylin and eosin [h, w], and where nuclei are."""

    haematoxylin: Map
    eosin: Map
    nuclei: Bool[np.ndarray, "h w"]


TISSUES = {
    "acinar": Tissue("ring", 3.3, 7.4, 1.15, 0.22, 0.25, 1.15, 0.14, 0.60, 0.20, 0.95, 0.12),
    "columnar": Tissue("palisaded", 3.5, 7.4, 1.9, 0.26, 0.28, 1.15, 0.15, 0.60, 0.20, 0.85, 0.09),
    "solid": Tissue("scattered", 4.9, 11.0, 1.15, 0.40, 0.50, 1.05, 0.22, 0.62, 0.18, 0.75, 0.15),
    "spindle": Tissue("fascicle", 3.2, 9.4, 2.9, 0.25, 0.25, 1.15, 0.10, 0.68, 0.38, 0.80, 0.10),
}

STAINS = {
    "Alder": Stain((0.76, 1.02, 0.46), (0.08, 0.60, 0.30), (0.96, 0.95, 0.96)),
    "Birch": Stain((0.98, 0.86, 0.44), (0.18, 0.52, 0.24), (0.93, 0.95, 0.96)),
    "Cedar": Stain((0.78, 1.30, 0.58), (0.22, 1.00, 0.42), (0.95, 0.92, 0.94)),
    "Elm": Stain((0.84, 1.00, 0.64), (0.08, 0.64, 0.54), (0.96, 0.93, 0.91)),
    "Hazel": Stain((0.58, 0.78, 0.30), (0.05, 0.38, 0.15), (0.97, 0.96, 0.98)),
    "Maple": Stain((0.78, 1.12, 0.34), (0.24, 0.80, 0.26), (0.94, 0.93, 0.97)),
    "Rowan": Stain((0.86, 0.98, 0.64), (0.16, 0.56, 0.44), (0.95, 0.93, 0.88)),
    "Willow": Stain((1.20, 1.30, 0.64), (0.12, 0.52, 0.20), (0.95, 0.95, 0.97)),
}

SCANNERS = {
    "Alder": Scanner(1.0, (1.00, 1.00, 1.00), 1.5, 90),
    "Birch": Scanner(1.3, (0.98, 1.00, 1.01), 2.0, 85),
    "Cedar": Scanner(1.1, (1.01, 0.98, 1.00), 1.5, 80),
    "Elm": Scanner(1.0, (1.02, 1.00, 0.97), 1.2, 92),
    "Hazel": Scanner(1.6, (1.00, 1.01, 1.01), 2.2, 85),
    "Maple": Scanner(1.2, (0.99, 0.98, 1.02), 1.5, 88),
    "Rowan": Scanner(1.4, (1.01, 1.00, 0.96), 2.5, 75),
    "Willow": Scanner(0.9, (0.99, 1.00, 1.02), 1.0, 95),
}

CLASSES = tuple(TISSUES)
SITES = tuple(STAINS)
CELLS = tuple((class_, site) for site in SITES for class_ in CLASSES)

GROUPS = ("A", "B", "C")
LYMPHOCYTES = {"A": 0.3, "B": 0.8, "C": 1.6}  # mean count in a field
GROUP_MISSING = 0.15  # share of patients whose group is not known
GROUP_GIVEN_SITE = {
    "Alder": (0.70, 0.20, 0.10),
    "Birch": (0.15, 0.70, 0.15),
    "Cedar": (0.55, 0.35, 0.10),
    "Elm": (0.10, 0.30, 0.60),
    "Hazel": (0.34, 0.33, 0.33),
    "Maple": (0.20, 0.10, 0.70),
    "Rowan": (0.60, 0.30, 0.10),
    "Willow": (0.10, 0.60, 0.30),
}

CLOUD = 0.16  # relative amplitude of uneven cytoplasm
CRACKS = 1.5  # standard deviations of that unevenness beyond which tissue is torn

# Patches per site (rows) and class (columns) of the cohort as collected, before scaling to the wanted total:
# two sites hold more than four fifths of each class, three cells are empty, the smallest hold a handful.
DESIGN = {
    "Alder": (400, 5, 8, 16),
    "Birch": (330, 9, 0, 4),
    "Cedar": (11, 390, 14, 0),
    "Elm": (4, 290, 28, 7),
    "Hazel": (18, 5, 370, 8),
    "Maple": (0, 12, 260, 4),
    "Rowan": (22, 7, 5, 380),
    "Willow": (4, 10, 20, 340),
}

# Standard deviations of a slide's own effects (of logarithms, except for the hue and the background).
SLIDE = {
    "spacing": 0.07,
    "radius": 0.06,
    "eosin": 0.12,
    "basophilia": 0.20,
    "disorder": 0.20,
    "fibre": 0.25,
    "lumen": 0.20,
    "concentration": 0.12,
    "hue": 0.03,
    "blur": 0.12,
    "background": 0.008,
}


def parameters_hash() -> str:
    """A hash of every factor and of the rendering version: figures of different hashes are not comparable."""
    named = [{name: asdict(factor) for name, factor in table.items()} for table in (TISSUES, STAINS, SCANNERS)]
    groups = [LYMPHOCYTES, GROUP_MISSING, GROUP_GIVEN_SITE]
    return content_hash(VERSION, FIELD, MARGIN, CLOUD, CRACKS, *named, *groups, DESIGN, SLIDE)


# --- cohorts ---------------------------------------------------------------------------------------------------------


def schema() -> Schema:
    """Class, site and group with all their levels, those without patches included."""
    return Schema(
        Attribute("class", levels=CLASSES), (Attribute("site", levels=SITES), Attribute("group", levels=GROUPS))
    )


def cohort(seed: int, size: int = 32, patches: int = 4000) -> Cohort:
    """The skewed cohort as collected: counts follow DESIGN whatever the seed, slides hold about 8 to 25 patches.

    Raises MediError for a size other than 32 or 64, or fewer patches than filled cells.
    """
    rows = []
    for (class_, site), count in _design_counts(patches).items():
        sizes = _slide_sizes(class_, site, count)
        rows += list(_rows("cohort", seed, class_, site, sizes))
    return _realise(rows, Seeds(seed, seed, seed), size, "cohort")


def fresh(
    cells: Sequence[tuple[str, str]], per_cell: int, seed: int, stream: str, size: int = 32, patches_per_slide: int = 10
) -> Cohort:
    """`per_cell` patches of each (class, site), from patients and slides that no other stream or seed shares.

    The first patches of a cell stay the same when more of them or more cells are asked for.
    """
    if stream == "cohort":
        raise MediError("stream 'cohort' is the collected cohort's own; name another one")
    if per_cell < 1 or patches_per_slide < 1:
        raise MediError(f"patches per cell ({per_cell}) and per slide ({patches_per_slide}) must be 1 or more")
    full, rest = divmod(per_cell, patches_per_slide)
    sizes = [patches_per_slide] * full + [rest] * (rest > 0)
    rows = []
    for class_, site in cells:
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
    """DESIGN scaled to exactly this many patches, at least one in each filled cell (largest remainders)."""
    weights = np.array([DESIGN[site] for site in SITES], dtype=np.float64).ravel()  # in the order of CELLS
    filled = weights > 0
    if patches < filled.sum():
        raise MediError(f"{patches} patches are too few: the phantom fills {filled.sum()} cells; ask for more")
    share = weights / weights.sum() * (patches - filled.sum()) + filled
    counts = np.floor(share).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: patches - counts.sum()]] += 1
    return {cell: int(count) for cell, count in zip(CELLS, counts) if count}


def _slide_sizes(class_: str, site: str, count: int) -> list[int]:
    """How many patches each slide of a cell holds: 8 to 25, the last what is left; the same for every seed."""
    rng = generator("phantom", "slides", class_, site)
    sizes = []
    while count > 0:
        sizes.append(min(int(rng.integers(8, 26)), count))
        count -= sizes[-1]
    return sizes


def _rows(stream: str, seed: int, class_: str, site: str, sizes: list[int]) -> Iterator[dict[str, str]]:
    """Table rows of one cell; a patient has one to three slides, the ids name stream, seed and cell."""
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
    if size not in (32, 64):
        raise MediError(f"phantom patches are 32 or 64 px, not {size}")
    if not rows:
        raise MediError("no cells asked for: name at least one (class, site)")
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for image, row in zip(images, rows):
        section, site = _section_of(row, seeds, size), row["site"]
        image[:] = render(section, STAINS[site], SCANNERS[site], row["slide"], row["sample_id"], seeds)
    groups = [_group(row["patient"], seeds.tissue)[1] for row in rows]
    info = {"source": "phantom", "stream": stream, "seeds": asdict(seeds), "parameters": parameters_hash()}
    return Cohort(_table(rows, groups, size), schema(), Pixels.of(images), info)


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


# --- tissue ----------------------------------------------------------------------------------------------------------


def cut(class_: str, group: str, slide: str, sample: str, seed: int, size: int) -> Section:
    """The tissue of one patch before staining, from the keys of its slide and of itself; [size, size] maps."""
    tissue = slide_tissue(TISSUES[class_], slide, seed)
    rng = generator("phantom", "tissue", seed, sample)
    centres, angles, gap, direction = _ARRANGEMENTS[tissue.arrangement](rng, tissue, _frame(size))
    density, cover = _nuclei(rng, tissue, centres, angles, LYMPHOCYTES[group], size)
    cloud, fibre = _noise(rng, size, 4.0), _noise(rng, size, 1.5, direction, 5.0)
    chromatin = 1.0 + tissue.chromatin * _noise(rng, size, 1.5)
    cracks = 2.0 * (-cloud - CRACKS)  # any tissue tears and shrinks
    white = tissue.lumen * np.clip(np.maximum(gap, cracks), 0.0, 1.0) * (1.0 - cover)
    cytoplasm = np.maximum(1.0 + CLOUD * cloud + tissue.fibre * fibre, 0.1) * (1.0 - white)
    haematoxylin = density * chromatin + tissue.basophilia * cytoplasm * (1.0 - cover)
    eosin = tissue.eosin * cytoplasm * (1.0 - 0.5 * cover)
    return Section(np.maximum(haematoxylin, 0.0), eosin, cover > 0.5)


@lru_cache(maxsize=64)
def slide_tissue(tissue: Tissue, slide: str, seed: int) -> Tissue:
    """The class's tissue as it is in this slide."""
    rng = generator("phantom", "slide tissue", seed, slide)
    names = ("spacing", "radius", "eosin", "basophilia", "disorder", "fibre", "lumen")
    factors = {name: getattr(tissue, name) * math.exp(SLIDE[name] * rng.standard_normal()) for name in names}
    return replace(tissue, **(factors | {"lumen": min(factors["lumen"], 1.0)}))


Frame = tuple[Map, Map]
Layout = tuple[Points, Angles, Map, float]  # centres (y, x) and angles of nuclei, gaps [h, w], direction of fibres


@lru_cache(maxsize=4)
def _frame(size: int) -> Frame:
    """y and x of each pixel's centre in micrometres, the field's centre at 0."""
    axis = (np.arange(size) + 0.5) * (FIELD / size) - FIELD / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _turn(s: Angles, t: Angles, angle: float | Angles) -> Points:
    """Points (y, x) from coordinates along (s) and across (t) the direction `angle`."""
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.stack([s * sine + t * cosine, s * cosine - t * sine], axis=-1)


def _lattice(along: float, across: float, offset: tuple[float, float]) -> tuple[Angles, Angles]:
    """s and t of a staggered lattice that covers field and margin however it is turned; spacings in micrometres."""
    reach = (FIELD / 2 + MARGIN) * math.sqrt(2.0)
    rows, columns = math.ceil(reach / across), math.ceil(reach / along)
    i, j = np.mgrid[-rows : rows + 1, -columns : columns + 1].reshape(2, -1)
    return (j + 0.5 * (i % 2) + offset[0]) * along, (i + offset[1]) * across


def _jittered(rng: np.random.Generator, along: float, across: float, jitter: float, angle: float) -> Points:
    """Points of a turned lattice at a random offset, each moved by `jitter` (share of the spacing)."""
    s, t = _lattice(along, across, (rng.random(), rng.random()))
    s, t = (axis + jitter * step * rng.standard_normal(axis.shape) for axis, step in ((s, along), (t, across)))
    return _turn(s, t, angle)


def _scattered(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """A sheet of cells without order."""
    angle = rng.uniform(0.0, math.pi)
    centres = _jittered(rng, tissue.spacing, 0.87 * tissue.spacing, tissue.disorder, angle)
    return centres, rng.uniform(0.0, math.pi, len(centres)), np.zeros_like(frame[0]), angle


def _fascicle(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Spindle cells and fibres that stream in one direction, slits between them."""
    angle = rng.uniform(0.0, math.pi)
    centres = _jittered(rng, 1.2 * tissue.spacing, 0.8 * tissue.spacing, tissue.disorder, angle)
    gap = 1.5 * (_noise(rng, len(frame[0]), 1.8, angle, 4.0) - 1.7)
    return centres, angle + 2.0 * tissue.disorder * rng.standard_normal(len(centres)), gap, angle


def _palisaded(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Wavy rows of upright nuclei, a cleft between every second pair of rows and stroma between the others."""
    angle, phase, offset = rng.uniform(0.0, math.pi), rng.uniform(0.0, 2.0 * math.pi), rng.random()
    pitch, width = 1.8 * tissue.spacing, rng.uniform(-3.0, 3.5)
    s, t = _lattice(tissue.spacing, pitch, (rng.random(), offset))
    s, t = (axis + tissue.disorder * tissue.spacing * rng.standard_normal(axis.shape) for axis in (s, t))
    centres = _turn(s, t + 3.0 * np.sin(s / 11.0 + phase), angle)
    y, x = frame
    along, across = y * math.sin(angle) + x * math.cos(angle), y * math.cos(angle) - x * math.sin(angle)
    row = (across - 3.0 * np.sin(along / 11.0 + phase)) / pitch - offset
    distance = pitch * np.abs((row - 0.5) % 2.0 - 1.0)  # from the middle of the nearest cleft
    gap = 0.5 + (width + 2.0 * _noise(rng, len(y), 4.0) - distance) / 2.5
    return centres, angle + math.pi / 2 + 2.0 * tissue.disorder * rng.standard_normal(len(centres)), gap, angle


def _ring(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Glands, nuclei on ellipses around white lumina of any width, and stroma with nuclei of its own between them."""
    radius, angle, stretch = 1.6 * tissue.spacing, rng.uniform(0.0, math.pi), rng.uniform(1.0, 1.3)
    glands = _inside(_jittered(rng, 2.7 * radius * stretch, 2.4 * radius / stretch, 0.06, angle), 2.0 * radius)
    radii = radius * np.exp(0.10 * rng.standard_normal(len(glands)))
    counts = np.maximum(np.rint(2.0 * math.pi * radii / tissue.spacing).astype(int), 3)
    which = np.repeat(np.arange(len(glands)), counts)
    polar = 2.0 * math.pi * np.arange(len(which)) / counts[which] + tissue.disorder * rng.standard_normal(len(which))
    reach = radii[which] + tissue.disorder * tissue.spacing * rng.standard_normal(len(which))
    wall = glands[which] + _turn(reach * np.cos(polar) * stretch, reach * np.sin(polar) / stretch, angle)
    stroma = _inside(_jittered(rng, 1.2 * tissue.spacing, 1.2 * tissue.spacing, 0.25, angle), MARGIN)
    stroma = stroma[_depth(stroma, glands, radii, angle, stretch) > 5.0]
    angles = np.concatenate([angle + polar, rng.uniform(0.0, math.pi, len(stroma))])
    lumina = radii - rng.uniform(5.75, 11.5, len(radii))
    depth = _depth(np.stack(frame, axis=-1).reshape(-1, 2), glands, lumina, angle, stretch).reshape(frame[0].shape)
    gap = 0.5 + (1.8 * _noise(rng, len(depth), 4.0) - depth) / 2.5
    return np.concatenate([wall, stroma]), angles, gap, angle


def _inside(points: Points, margin: float) -> Float64[np.ndarray, "inside 2"]:
    """The points in the field or at most `margin` micrometres outside."""
    return points[np.abs(points).max(axis=1, initial=0.0) < FIELD / 2 + margin]


def _depth(
    points: Float64[np.ndarray, "p 2"], glands: Points, radii: Angles, angle: float, stretch: float
) -> Float64[np.ndarray, " p"]:
    """Signed distance (micrometres, about) of each point from the nearest gland's ellipse, negative inside."""
    y, x = (points[:, None, :] - glands).transpose(2, 0, 1)
    along, across = y * math.sin(angle) + x * math.cos(angle), y * math.cos(angle) - x * math.sin(angle)
    return (np.sqrt((along / stretch) ** 2 + (across * stretch) ** 2) - radii).min(axis=1, initial=FIELD)


_ARRANGEMENTS = {"scattered": _scattered, "palisaded": _palisaded, "ring": _ring, "fascicle": _fascicle}


def _nuclei(
    rng: np.random.Generator, tissue: Tissue, centres: Points, angles: Angles, lymphocytes: float, size: int
) -> tuple[Map, Map]:
    """Haematoxylin and coverage (0 to 1) of the class's nuclei and of infiltrating lymphocytes, each [h, w]."""
    inside = np.abs(centres).max(axis=1) < FIELD / 2 + 0.75 * MARGIN
    extra = rng.poisson(lymphocytes * (1.0 + 2.0 * MARGIN / FIELD) ** 2)
    own = int(inside.sum())
    positions = np.concatenate([centres[inside], rng.uniform(-1.0, 1.0, (extra, 2)) * (FIELD / 2 + MARGIN)])
    turns = np.concatenate([angles[inside], np.zeros(extra)])
    is_own = np.arange(own + extra) < own
    radius = np.where(is_own, tissue.radius, 2.7) * np.exp(0.13 * rng.standard_normal(own + extra))
    stretch = np.sqrt(np.where(is_own, tissue.elongation * np.exp(0.12 * rng.standard_normal(own + extra)), 1.0))
    dark = np.where(is_own, tissue.nuclear, 1.35) * np.exp(0.14 * rng.standard_normal(own + extra))
    clearing = np.where(is_own, tissue.clearing, 0.0)
    ellipses = np.stack([*positions.T, radius * stretch, radius / stretch, turns, dark, clearing])
    return _stamp(ellipses, size)


def _stamp(ellipses: Float64[np.ndarray, "7 k"], size: int) -> tuple[Map, Map]:
    """Soft-edged ellipses, the darker on top: (y, x, long and short semi-axis, angle, density, clearing) each."""
    y, x, long, short, angle, dark, clearing = ellipses[:, :, None, None]
    pixel = FIELD / size
    half = math.ceil((long.max(initial=1.0) + pixel) / pixel) + 1
    corner = np.floor((ellipses[:2].T + FIELD / 2) / pixel).astype(int)  # the pixel that holds the centre
    step = np.arange(-half, half + 1)
    dy = ((corner[:, 0, None] + step + 0.5) * pixel - FIELD / 2)[:, :, None] - y
    dx = ((corner[:, 1, None] + step + 0.5) * pixel - FIELD / 2)[:, None, :] - x
    u, v = dy * np.sin(angle) + dx * np.cos(angle), dy * np.cos(angle) - dx * np.sin(angle)
    depth = 1.0 - np.sqrt((u / long) ** 2 + (v / short) ** 2)  # 1 at the centre, 0 at the rim
    cover = np.clip(0.5 + depth * short / (1.1 * pixel), 0.0, 1.0)
    stamps = np.stack([cover * dark * (1.0 - clearing * np.clip(1.6 * depth, 0.0, 1.0)), cover], axis=1)
    border = 2 * half + math.ceil(MARGIN / pixel) + 1
    canvas = np.zeros((2, size + 2 * border, size + 2 * border))
    for stamp, (row, column) in zip(stamps, corner + border - half):
        window = canvas[:, row : row + 2 * half + 1, column : column + 2 * half + 1]
        np.maximum(window, stamp, out=window)
    return canvas[0, border:-border, border:-border], canvas[1, border:-border, border:-border]


def _noise(rng: np.random.Generator, size: int, scale: float, angle: float = 0.0, stretch: float = 1.0) -> Map:
    """Gaussian noise of unit variance, smooth over `scale` micrometres, `stretch` times as far along `angle`."""
    from scipy.fft import irfft2, rfft2

    padded = size + size // 2  # the transform is periodic: what would wrap round is cut off
    spectrum = rfft2(rng.standard_normal((padded, padded))) * _smoothing(padded, scale * size / FIELD, angle, stretch)
    return irfft2(spectrum, s=(padded, padded))[:size, :size]


@lru_cache(maxsize=64)
def _smoothing(size: int, scale: float, angle: float, stretch: float) -> Map:
    """Transfer function of a Gaussian filter (scale in pixels), normalised to keep unit variance."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :]
    along, across = fy * math.sin(angle) + fx * math.cos(angle), fy * math.cos(angle) - fx * math.sin(angle)
    gain = np.exp(-2.0 * (math.pi * scale) ** 2 * ((stretch * along) ** 2 + across**2))
    return (gain / np.sqrt((gain**2).mean()))[:, : size // 2 + 1]


# --- rendering -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlideStain:
    """How a slide departs from its site: factors of stain vectors [2, 3] and of blur, an offset of the white."""

    vectors: Float64[np.ndarray, "2 3"]
    background: float
    blur: float


def stain_of(slide: str, seed: int) -> SlideStain:
    """What (rendering seed, slide) draws."""
    rng = generator("phantom", "slide stain", seed, slide)
    strength = np.exp(SLIDE["concentration"] * rng.standard_normal(2))
    hue = 1.0 + SLIDE["hue"] * rng.standard_normal((2, 3))
    background = SLIDE["background"] * rng.standard_normal()
    return SlideStain(hue * strength[:, None], background, math.exp(SLIDE["blur"] * rng.standard_normal()))


def render(
    section: Section, stain: Stain, scanner: Scanner, slide: str, sample: str, seeds: Seeds
) -> UInt8[np.ndarray, "h w 3"]:
    """Stain and scan one section: the slide's own stain and focus follow (rendering seed, slide), noise (sensor seed,
    sample). Stain and scanner are separate factors; `scanner.clean()` has neither noise nor JPEG."""
    from scipy.ndimage import gaussian_filter1d

    slide_stain = stain_of(slide, seeds.rendering)
    vectors = np.array([stain.haematoxylin, stain.eosin]) * slide_stain.vectors
    white = np.array(stain.background) + slide_stain.background
    blur = scanner.blur * slide_stain.blur * len(section.eosin) / FIELD
    density = np.stack([section.haematoxylin, section.eosin], axis=-1) @ vectors
    light = white * np.exp(-density)
    for axis in (0, 1):
        light = gaussian_filter1d(light, blur, axis=axis, mode="nearest")
    return _sense(light * np.array(scanner.gain), scanner, generator("phantom", "sensor", seeds.sensor, sample))


def _sense(
    light: Float64[np.ndarray, "h w 3"], scanner: Scanner, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    noisy = 255.0 * light + scanner.noise * rng.standard_normal(light.shape)
    image = np.rint(np.clip(noisy, 0.0, 255.0)).astype(np.uint8)
    if scanner.jpeg is None:
        return image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=scanner.jpeg, subsampling=0)
    return np.asarray(Image.open(buffer))
