"""The phantom's factors: tissues, stains, scanners, groups, counts, and what a slide does to them."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from medi.core.files import content_hash

VERSION = 1  # of the rendering code: raise it when the same parameters give other pixels (numbers inside functions)
FIELD = 32.0  # micrometres across a patch, whatever its size in pixels: mpp is FIELD / size
SIZES = (32, 64, 128, 256)  # pixels along a side
MARGIN = 8.0  # micrometres around the field where nuclei may be centred, so that the border cuts some

Map = Float64[np.ndarray, "h w"]
Points = Float64[np.ndarray, "k 2"]
Angles = Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class Tissue:
    """What a class looks like before staining; lengths in micrometres, concentrations relative to the stain's."""

    arrangement: Literal["scattered", "palisaded", "ring", "fascicle", "nested", "whorled", "filed"]
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
COMBINATIONS = tuple((class_, site) for site in SITES for class_ in CLASSES)

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
# two sites hold more than four fifths of each class, three combinations are empty, the smallest hold a handful.
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
